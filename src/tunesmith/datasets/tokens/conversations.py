"""The texts of a conversation that become tokens, and the tokens around them.

The published formula for chat models: three tokens for each message, one more for a name, three
for the answer. Messages count in the form in which they are trained and served, with the
arguments of calls as JSON. Tools are counted as JSON, as most chat templates write them; how a
service does is not known, so what holds tools is an estimate. Images have no texts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.chat_messages import MessageError, normalize_messages
from tunesmith.datasets.json_types import is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["TOKENS_PER_ROW", "message_texts", "tool_texts"]

TOKENS_PER_ROW: Final = 3
_PER_MESSAGE: Final = 3
_PER_NAME: Final = 1


def message_texts(messages: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Return the texts of messages, and the number of tokens around them."""
    texts: list[str] = []
    extra = 0
    for message in _normalized(messages):
        extra += _PER_MESSAGE + (_PER_NAME if message.get("name") is not None else 0)
        for value in message.values():
            _collect_strings(value, texts)
    return texts, extra


def _normalized(messages: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Return messages as they are trained; those that cannot be, as they are."""
    try:
        normalized = normalize_messages(messages, skip_other_parts=True)
    except MessageError:
        return messages
    for message in normalized:
        for call in message.get("tool_calls", ()):
            arguments = call["function"]["arguments"]
            call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return normalized


def tool_texts(row: Mapping[str, Any]) -> list[str]:
    """Return each tool and function that a row declares, as JSON."""
    declared: list[Any] = []
    for name in ("tools", "functions"):
        value = row.get(name)
        declared += value if is_array(value) else []
    return [json.dumps(tool, ensure_ascii=False) for tool in declared]


def _collect_strings(value: Any, texts: list[str]) -> None:
    """Add the strings within a value; images and the types of parts and calls are left out."""
    if isinstance(value, str):
        texts.append(value)
    elif is_array(value):
        for item in value:
            _collect_strings(item, texts)
    elif is_object(value):
        for key, item in value.items():
            if key not in {"image_url", "type"}:
                _collect_strings(item, texts)
