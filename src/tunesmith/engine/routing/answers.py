"""What an answer of either side says, and how two answers to one request agree.

An answer is read from its bytes: one JSON object, or the chunks of an event stream. What cannot be
read says nothing; nothing here fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tunesmith.core.sse import ServerSentEventDecoder

__all__ = ["Agreement", "Answer", "agreement_of", "read_answer"]

_LONGEST_CLASS = 64
_EDGES = " \t\n\r.,;:!?\"'`"


@dataclass(slots=True)
class Answer:
    """What an answer says.

    Attributes:
        texts: Of each choice.
        calls: Name and arguments of each tool call, of all choices.
        finish_reasons: Of each choice, where it is given.
        usage: Tokens, where they are given.
    """

    texts: list[str] = field(default_factory=list[str])
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    finish_reasons: list[str] = field(default_factory=list[str])
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two answers agree; see `types.model_routes.RouteAgreement`."""

    text: bool
    normalized: bool
    calls: bool | None
    label: bool | None


@dataclass(slots=True)
class _Choice:
    text: str = ""
    finish_reason: str | None = None
    calls: dict[int, list[str]] = field(default_factory=dict[int, list[str]])

    def add(self, choice: dict[str, Any]) -> None:
        """Add a choice of an answer, or of one chunk of it."""
        message = choice.get("message") or choice.get("delta") or {}
        self.text += choice.get("text") or message.get("content") or message.get("refusal") or ""
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        calls: list[dict[str, Any]] = list(message.get("tool_calls") or ())
        if message.get("function_call"):
            calls.append({"function": message["function_call"]})
        for number, call in enumerate(calls):
            known = self.calls.setdefault(call.get("index", number), ["", ""])
            function = call.get("function") or {}
            known[0] += function.get("name") or ""
            known[1] += function.get("arguments") or ""


def read_answer(content: bytes, *, is_stream: bool) -> Answer:
    """Return what an answer says; what cannot be read is left out."""
    answer = Answer()
    choices: dict[int, _Choice] = {}
    for piece in _events(content) if is_stream else [content]:
        try:
            body = json.loads(piece)
            answer.usage = body.get("usage") or answer.usage
            for choice in body.get("choices") or ():
                choices.setdefault(choice.get("index", 0), _Choice()).add(choice)
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    for _, choice in sorted(choices.items()):
        answer.texts.append(choice.text)
        answer.calls += [(name, arguments) for name, arguments in choice.calls.values()]
        if choice.finish_reason is not None:
            answer.finish_reasons.append(choice.finish_reason)
    return answer


def agreement_of(old: Answer, new: Answer) -> Agreement:
    """Return how two answers to one request agree."""
    normalized = [_normalized(text) for text in old.texts] == [
        _normalized(text) for text in new.texts
    ]
    calls = None
    if old.calls or new.calls:
        calls = [_call(*one) for one in old.calls] == [_call(*one) for one in new.calls]
    is_class = not old.calls and all(
        len(text) <= _LONGEST_CLASS and "\n" not in text.strip() for text in old.texts
    )
    return Agreement(
        text=old.texts == new.texts,
        normalized=normalized,
        calls=calls,
        label=normalized if is_class and old.texts else None,
    )


def _events(content: bytes) -> list[bytes]:
    return [event.data for event in ServerSentEventDecoder().feed(content) if event.data]


def _normalized(text: str) -> str:
    canonical = _canonical_json(text)
    return " ".join(text.strip(_EDGES).casefold().split()) if canonical is None else canonical


def _call(name: str, arguments: str) -> tuple[str, str]:
    canonical = _canonical_json(arguments)
    return name, arguments.strip() if canonical is None else canonical


def _canonical_json(text: str) -> str | None:
    """Return a JSON object or list with its keys in order; None for all else."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return None
