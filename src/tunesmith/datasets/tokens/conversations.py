"""The texts of a conversation that become tokens, and the tokens around them.

The published formula for chat models: three tokens for each message, one more for a name, three
for the answer. Tools are counted as JSON, as most chat templates write them; how a service does is
not known, so what holds tools is an estimate. Images have no texts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.json_types import is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["TOKENS_PER_ROW", "message_texts", "tool_texts"]

TOKENS_PER_ROW: Final = 3
_PER_MESSAGE: Final = 3
_PER_NAME: Final = 1


def message_texts(messages: Iterable[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Return the texts of messages, and the number of tokens around them."""
    texts: list[str] = []
    extra = 0
    for message in messages:
        extra += _PER_MESSAGE + (_PER_NAME if message.get("name") is not None else 0)
        for value in message.values():
            _collect_strings(value, texts)
    return texts, extra


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
