"""Stored chat completions as training rows: the conversation that was asked, and its answer.

What cannot be learned as it stands is left out with its reason; nothing is changed to fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["LeftOutError", "training_rows"]

_ROLES = ("system", "developer", "user", "assistant", "tool")
_TEXT_PARTS = frozenset({"text", "refusal"})
_NO_ANSWERS = {
    "length": "the answer was cut off by its token limit",
    "content_filter": "the answer was filtered",
}


class LeftOutError(ValueError):
    """A completion that is no training row; the message is the reason."""


def training_rows(
    completion: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield one chat row for each choice of a stored completion.

    Args:
        completion: The chat completion, with the `tools` of its request.
        messages: The messages that it answers, as the API lists them.

    Raises:
        LeftOutError: A message or the answer cannot be learned.
    """
    asked = [_message(message) for message in messages]
    if not asked:
        raise LeftOutError("it has no messages")
    tools = completion.get("tools")
    shared: dict[str, Any] = {"tools": tools} if tools else {}
    choices: list[Mapping[str, Any]] = list(completion.get("choices") or ())
    if not choices:
        raise LeftOutError("it has no answer")
    for choice in choices:
        reason = _NO_ANSWERS.get(str(choice.get("finish_reason")))
        if reason is not None:
            raise LeftOutError(reason)
        yield {"messages": [*asked, _answer(choice.get("message") or {})], **shared}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if role not in _ROLES:
        raise LeftOutError(f"a message has the role {role!r:.40}")
    if message.get("audio") or message.get("function_call"):
        raise LeftOutError("a message has audio or a call in the form before tools")
    row: dict[str, Any] = {"role": role, "content": _content(message)}
    if role == "assistant" and message.get("tool_calls"):
        row["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    elif row["content"] is None:
        raise LeftOutError(f"a message of the role {role} has no text")
    if role == "tool":
        row["tool_call_id"] = message.get("tool_call_id")
    if message.get("name"):
        row["name"] = message["name"]
    return row


def _content(message: Mapping[str, Any]) -> str | None:
    parts = message.get("content_parts") or message.get("content")
    if not isinstance(parts, list):
        return cast("str | None", parts)
    texts: list[str] = []
    for part in cast("list[dict[str, Any]]", parts):
        kind = part.get("type")
        if kind not in _TEXT_PARTS:
            raise LeftOutError(f"a message has a part of the type {kind!r:.40}, which is no text")
        texts.append(str(part.get(str(kind)) or ""))
    return "".join(texts)


def _answer(message: Mapping[str, Any]) -> dict[str, Any]:
    if message.get("refusal"):
        raise LeftOutError("the answer is a refusal")
    if message.get("audio") or message.get("function_call"):
        raise LeftOutError("the answer has audio or a call in the form before tools")
    if not message.get("content") and not message.get("tool_calls"):
        raise LeftOutError("the answer is empty")
    row: dict[str, Any] = {"role": "assistant", "content": message.get("content")}
    if message.get("tool_calls"):
        row["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return row


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    if call.get("type", "function") != "function" or not call.get("function"):
        raise LeftOutError(f"a call is of the type {call.get('type')!r:.40}")
    function: Mapping[str, Any] = call["function"]
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function.get("name"), "arguments": function.get("arguments")},
    }
