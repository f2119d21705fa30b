"""Calls of tools in the text of an answer: where they begin, and what they say.

Two ways of writing a call are known, and a base's chat template tells which is its
own: `<tool_call>{"name": …, "arguments": …}</tool_call>`, and a bare JSON object
`{"name": …, "parameters": …}`. Both are read whatever the template says, for a model
may have been fine-tuned to either.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CALL_END", "CALL_START", "ToolCall", "ToolCallParser", "writes_tagged_calls"]

CALL_START = "<tool_call>"
CALL_END = "</tool_call>"
TAGGED = re.compile(rf"{CALL_START}\s*(.*?)\s*(?:{CALL_END}|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call: the tool's name, and its arguments as JSON text."""

    name: str
    arguments: str


def writes_tagged_calls(template: str) -> bool:
    """Return True if a chat template has calls between tags, False if they are bare JSON."""
    return CALL_START in template or "parameters" not in template


@dataclass(slots=True)
class ToolCallParser:
    """The text of one answer in which tools may be called.

    Text is given out as soon as it cannot be the beginning of a call; from the first
    call on everything is kept until the end.

    Args:
        names: The tools that there are.
    """

    names: Collection[str]
    _kept: str = ""
    _given: str = ""

    def push(self, text: str) -> str:
        """Add text; return what is plain text for certain."""
        self._kept += text
        if not self._given and self._kept.lstrip().startswith("{"):
            return ""
        start = self._kept.find(CALL_START)
        if start < 0:
            start = len(self._kept) - self._beginning_of_tag()
            if not self._given and not self._kept[:start].strip():
                return ""
        plain, self._kept = self._kept[:start], self._kept[start:]
        self._given += plain
        return plain

    def finish(self) -> tuple[str, list[ToolCall]]:
        """Return the text that is left and the calls; text that is no valid call stays text."""
        bare = None if self._given else _read_call(self._kept, self.names)
        if bare is not None:
            return "", [bare]
        calls = [_read_call(body, self.names) for body in TAGGED.findall(self._kept)]
        found = [call for call in calls if call is not None]
        if not found or len(found) < len(calls):
            return self._kept, []
        return TAGGED.sub("", self._kept).strip(), found

    def _beginning_of_tag(self) -> int:
        for length in range(min(len(CALL_START) - 1, len(self._kept)), 0, -1):
            if self._kept.endswith(CALL_START[:length]):
                return length
        return 0


def _read_call(text: str, names: Collection[str]) -> ToolCall | None:
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
