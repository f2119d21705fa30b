"""What the server and the generating process say to each other: JSON lines, plain data.

The server writes commands, one JSON object a line, each with a `kind`: "generate",
"cancel", "load", "loaded", "unload". The worker writes reports: "ready" once, "delta" for
each piece of an answer, "done" for a loaded model, "error" for a request that
cannot be answered. Neither side ever unpickles anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.engine.models.servable_model import ServableModel

__all__ = [
    "ChatPrompt",
    "GenerationDelta",
    "GenerationRequest",
    "GenerationUsage",
    "ScoredToken",
    "TokenCandidate",
    "delta_from_json",
    "delta_to_json",
    "encode_line",
    "model_from_json",
    "model_to_json",
]


class ChatPrompt(BaseModel):
    """A conversation, to be written out by the chat template of the base model.

    Attributes:
        messages: Messages in the form that chat templates read: `content` is text,
            `tool_calls` carry their arguments as objects.
        tools: Tool definitions for the template, or None.
        forced_calls: Functions (`name`, `parameters`), one of which the answer must call.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    forced_calls: list[dict[str, Any]] = Field(default_factory=list)


class GenerationRequest(BaseModel):
    """One request, checked and with its defaults filled in. Choices are numbered prompt by prompt.

    Attributes:
        prompts: Text or token ids; each gets `n` choices. Exactly one of `prompts` and
            `chat` is given.
        chat: A conversation, which counts as one prompt.
        max_tokens: Most tokens to generate for each choice; None for all that the
            context has room for.
        best_of: Choices generated for each prompt; the `n` of them with the highest
            mean log probability are returned.
        stop: Texts that end the answer and are not part of it.
        echo: Whether each choice begins with its prompt.
        logprobs: None for none, else the number of rivals to report at each position.
        logit_bias: Token id → what is added to its logit.
        response_schema: JSON schema that the answer must follow.
        stream: Whether to report each piece as it comes, else each choice at once.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    prompts: list[str | list[int]] = Field(default_factory=list)
    chat: ChatPrompt | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, ge=0, le=1)
    n: int = Field(default=1, ge=1)
    best_of: int = Field(default=1, ge=1)
    stop: list[str] = Field(default_factory=list)
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0)
    logit_bias: dict[int, float] = Field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    response_schema: dict[str, Any] | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class TokenCandidate:
    """One token and its log probability. `data` is the bytes that it stands for."""

    text: str
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class ScoredToken:
    r"""A token of the answer with its probability and its rivals'.

    Attributes:
        text: The token as text; "bytes:\xe2\x98" where it is no whole character.
        data: The bytes that it stands for.
        logprob: None for the first token of an echoed prompt, before which nothing stands.
        offset: Where it begins, in characters from the beginning of the prompt.
        top: The likeliest tokens of this position, likeliest first.
    """

    text: str
    data: bytes
    logprob: float | None
    offset: int
    top: tuple[TokenCandidate, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationUsage:
    """Tokens read and written by a whole request; rejected choices of `best_of` count too."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class GenerationDelta:
    """What is new in one choice.

    Attributes:
        index: Number of the choice.
        finish_reason: "stop" or "length" in a choice's last piece, else None.
        usage: Set in the last piece of the request.
    """

    index: int
    text: str
    tokens: tuple[ScoredToken, ...] = ()
    finish_reason: str | None = None
    usage: GenerationUsage | None = None


def encode_line(message: dict[str, Any]) -> bytes:
    """Return one message as a line of JSON."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def model_to_json(model: ServableModel) -> dict[str, Any]:
    """Return what the generator needs of a model: where it lies."""
    return {
        "name": model.name,
        "base_model": model.base_model,
        "base_path": str(model.base_path),
        "adapter_path": None if model.adapter_path is None else str(model.adapter_path),
    }


def model_from_json(data: dict[str, Any]) -> ServableModel:
    """Return the model that `model_to_json` described."""
    adapter = data["adapter_path"]
    return ServableModel(
        name=data["name"],
        base_model=data["base_model"],
        base_path=Path(data["base_path"]),
        adapter_path=None if adapter is None else Path(adapter),
    )


def delta_to_json(delta: GenerationDelta) -> dict[str, Any]:
    """Return a delta as JSON-ready data, short names for what comes by the thousand."""
    data: dict[str, Any] = {"i": delta.index, "t": delta.text}
    if delta.tokens:
        data["k"] = [
            [
                token.text,
                list(token.data),
                token.logprob,
                token.offset,
                [[rival.text, list(rival.data), rival.logprob] for rival in token.top],
            ]
            for token in delta.tokens
        ]
    if delta.finish_reason is not None:
        data["f"] = delta.finish_reason
    if delta.usage is not None:
        data["u"] = asdict(delta.usage)
    return data


def delta_from_json(data: dict[str, Any]) -> GenerationDelta:
    """Return the delta that `delta_to_json` wrote."""
    usage = data.get("u")
    return GenerationDelta(
        index=data["i"],
        text=data["t"],
        tokens=tuple(
            ScoredToken(
                text=text,
                data=bytes(raw),
                logprob=logprob,
                offset=offset,
                top=tuple(TokenCandidate(name, bytes(part), value) for name, part, value in top),
            )
            for text, raw, logprob, offset, top in data.get("k", ())
        ),
        finish_reason=data.get("f"),
        usage=None if usage is None else GenerationUsage(**usage),
    )
