"""Finds and parses tool calls in the text of an answer.

Two forms of a call are known, and a model's chat template shows which one it uses:
`<tool_call>{"name": …, "arguments": …}</tool_call>`, and a bare JSON object
`{"name": …, "parameters": …}`. Both are parsed whatever the template shows, because a model
may have been fine-tuned to either.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.tool_messages import CALL_END, CALL_START

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["ToolCall", "ToolCallParser", "uses_call_tags"]

TAGGED = re.compile(rf"{CALL_START}\s*(.*?)\s*(?:{CALL_END}|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call: the tool's name, and its arguments as JSON text."""

    name: str
    arguments: str


def uses_call_tags(template: str) -> bool:
    """Return True if a chat template puts calls between tags, False if they are bare JSON."""
    return CALL_START in template or "parameters" not in template


@dataclass(slots=True)
class ToolCallParser:
    """Separates the text of one answer from the tool calls in it.

    Text is released as soon as it cannot be the start of a call; from the first call on
    everything is buffered until the end.

    Args:
        names: Names of the available tools.
    """

    names: Collection[str]
    _buffer: str = ""
    _released: str = ""

    def push(self, text: str) -> str:
        """Append text; return what is certain to be plain text."""
        self._buffer += text
        if not self._released and self._buffer.lstrip().startswith("{"):
            return ""
        start = self._buffer.find(CALL_START)
        if start < 0:
            start = len(self._buffer) - self._partial_tag_length()
            if not self._released and not self._buffer[:start].strip():
                return ""
        plain, self._buffer = self._buffer[:start], self._buffer[start:]
        self._released += plain
        return plain

    def finish(self) -> tuple[str, list[ToolCall]]:
        """Return the rest of the text and the calls; an invalid call stays text."""
        bare = None if self._released else _parse_call(self._buffer, self.names)
        if bare is not None:
            return "", [bare]
        calls = [_parse_call(body, self.names) for body in TAGGED.findall(self._buffer)]
        found = [call for call in calls if call is not None]
        if not found or len(found) < len(calls):
            return self._buffer, []
        return TAGGED.sub("", self._buffer).strip(), found

    def _partial_tag_length(self) -> int:
        """Return the length of the longest suffix that may be the start of a tag."""
        for length in range(min(len(CALL_START) - 1, len(self._buffer)), 0, -1):
            if self._buffer.endswith(CALL_START[:length]):
                return length
        return 0


def _parse_call(text: str, names: Collection[str]) -> ToolCall | None:
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if not isinstance(call, dict) or call.get("name") not in names:
        return None
    arguments: Any = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str):
        return ToolCall(call["name"], arguments)
    if not isinstance(arguments, dict):
        return None
    return ToolCall(call["name"], json.dumps(arguments, ensure_ascii=False))
