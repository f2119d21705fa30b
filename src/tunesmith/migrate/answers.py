"""What a recorded response says, in the parts that can be compared: text, JSON, calls, tokens.

Reads chat completions and completions alike, and is lenient: a response of another service may
lack anything. Knows nothing of the prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .recordings import RecordedAnswer

__all__ = ["NO_JSON", "Answer", "ToolCall", "answer_of", "parse_json"]

ToolCall: TypeAlias = tuple[str, str]
"""A function's name and its arguments as canonical JSON, or as they came if they are none."""

NO_JSON: Any = object()
"""What a text that is no JSON is parsed to; None is JSON's null."""


@dataclass(frozen=True)
class Token:
    """A token of an answer with its log probability.

    Attributes:
        text: Its bytes.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens at its place, by their texts.
    """

    text: bytes
    logprob: float
    top: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """An answer, or why there is none.

    Attributes:
        text: What was said; "" if nothing was.
        calls: The calls of functions, in their order.
        refusal: Why the model refused, None if it did not.
        finish_reason: Why it ended.
        tokens: Its tokens, where log probabilities were recorded.
        prompt_tokens: As the service counted them.
        completion_tokens: As the service counted them.
        seconds: From the request to the whole answer.
        error: Why there is no answer; None if there is one.
        response: The whole response.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    tokens: tuple[Token, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    error: str | None = None
    response: Mapping[str, Any] | None = None

    @cached_property
    def json(self) -> Any:
        """The text's JSON value; `NO_JSON` if it is none."""
        return parse_json(self.text)

    @cached_property
    def normalized(self) -> str:
        """The text without blanks around it, runs of blanks as one, letter case kept."""
        return " ".join(self.text.split())

    @property
    def shown(self) -> str:
        """The answer as people read it: text, then calls; or the error."""
        if self.error is not None:
            return f"[no answer: {self.error}]"
        parts = [self.text] if self.text else []
        if self.refusal:
            parts.append(f"[refused: {self.refusal}]")
        parts += [f"{name}({arguments})" for name, arguments in self.calls]
        return "\n".join(parts)


def answer_of(recorded: RecordedAnswer | None) -> Answer:
    """Return what a recorded answer says."""
    if recorded is None:
        return Answer(error="not recorded")
    if recorded.response is None:
        error = recorded.error or {}
        return Answer(error=str(error.get("message") or "unknown error"), seconds=recorded.seconds)
    response = recorded.response
    choice = _object(_first(response.get("choices")))
    message = _object(choice.get("message"))
    text = message.get("content") if message else choice.get("text")
    usage = _object(response.get("usage"))
    refusal = message.get("refusal")
    return Answer(
        text=text if isinstance(text, str) else "",
        calls=tuple(_calls(message)),
        refusal=refusal if isinstance(refusal, str) and refusal else None,
        finish_reason=choice.get("finish_reason"),
        tokens=tuple(_tokens(_object(choice.get("logprobs")))),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        seconds=recorded.seconds,
        error=None if choice else "the response has no choices",
        response=response,
    )


def message_answer(reference: Any) -> Answer | None:
    """Return a reference, a text or an assistant's message, as an answer; None if it is neither."""
    if isinstance(reference, str):
        return Answer(text=reference)
    message = _object(reference)
    content = message.get("content")
    if not isinstance(content, str) and not message.get("tool_calls"):
        return None
    return Answer(text=content if isinstance(content, str) else "", calls=tuple(_calls(message)))


def parse_json(text: str) -> Any:
    """Return a text's JSON value; `NO_JSON` if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return NO_JSON


def _calls(message: Mapping[str, Any]) -> list[ToolCall]:
    calls = message.get("tool_calls")
    functions = [
        _object(_object(call).get("function") or _object(call).get("custom"))
        for call in (calls if isinstance(calls, list) else [])
    ]
    if message.get("function_call"):
        functions.append(_object(message["function_call"]))
    return [
        (str(one.get("name")), _arguments(one.get("arguments", one.get("input"))))
        for one in functions
        if one
    ]


def _arguments(value: Any) -> str:
    """Return arguments in one form, whether they came as JSON text or as an object."""
    parsed = parse_json(value) if isinstance(value, str) else value
    if parsed is NO_JSON:
        return str(value)
    return json.dumps(parsed, sort_keys=True, ensure_ascii=False)


def _tokens(logprobs: Mapping[str, Any]) -> list[Token]:
    """Return the tokens of a chat's log probabilities, or of those of a completion."""
    if isinstance(logprobs.get("content"), list):
        return [_chat_token(_object(one)) for one in logprobs["content"]]
    texts, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(texts, list) or not isinstance(values, list) or len(texts) != len(values):
        return []
    tops = logprobs.get("top_logprobs")
    tops = tops if isinstance(tops, list) and len(tops) == len(texts) else [None] * len(texts)
    return [
        Token(str(text).encode("utf-8", "surrogatepass"), float(value), _numbers(top))
        for text, value, top in zip(texts, values, tops, strict=True)
        if isinstance(value, int | float)
    ]


def _chat_token(one: Mapping[str, Any]) -> Token:
    text = str(one.get("token"))
    content = one.get("bytes")
    top = one.get("top_logprobs")
    return Token(
        bytes(content)
        if content is not None and _are_bytes(content)
        else text.encode("utf-8", "surrogatepass"),
        float(one.get("logprob") or 0.0),
        _numbers(
            {_object(other).get("token"): _object(other).get("logprob") for other in top or ()}
        ),
    )


def _are_bytes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, int) and 0 <= one < 256  # noqa: PLR2004 - a byte
        for one in value
    )


def _numbers(values: Any) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in _object(values).items()
        if isinstance(value, int | float)
    }


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
