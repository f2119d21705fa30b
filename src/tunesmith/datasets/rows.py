"""Rows and their four formats.

A row is a JSON object with its location in its source. Formats:

* prompt_completion: `{"prompt": str, "completion": str}`
* chat: `{"messages": [...], "tools"?: [...], "parallel_tool_calls"?: bool}`
* preference: `{"input": {"messages": [...]}, "preferred_output": [...],
  "non_preferred_output": [...]}`
* reinforcement: `{"messages": [...], "tools"?: [...]}` and any other keys, for the grader
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tunesmith._lazy import set_public_module

from .json_types import is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ROW_FORMATS", "Row", "RowFormat", "detect_row_format", "row_format_of"]

RowFormat: TypeAlias = Literal["prompt_completion", "chat", "preference", "reinforcement"]

ROW_FORMATS: Final[tuple[RowFormat, ...]] = (
    "prompt_completion",
    "chat",
    "preference",
    "reinforcement",
)

_CHAT_KEYS: Final = frozenset(
    {"messages", "tools", "parallel_tool_calls", "functions", "function_call"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row and its location.

    Attributes:
        value: The row as a JSON object.
        line: Line of the source on which it starts, counted from 1; for sources without
            lines (a frame, a list) its number, counted from 1.
        byte_offset: Where it starts in the file, or None where the source has no bytes.
        file: Name of the source, or None.
    """

    value: dict[str, Any]
    line: int
    byte_offset: int | None = None
    file: str | None = None


def row_format_of(value: Mapping[str, Any]) -> RowFormat | None:
    """Return the format that the keys of a row imply, or None where they imply none.

    Chat and reinforcement rows share `messages`. A row counts as reinforcement where it has
    keys that no chat row has and its conversation ends with something other than the
    assistant, which is what the model is then asked to say.
    """
    if "preferred_output" in value or "non_preferred_output" in value:
        return "preference"
    if "messages" in value:
        return "reinforcement" if _is_reinforcement(value) else "chat"
    if "prompt" in value or "completion" in value:
        return "prompt_completion"
    return None


def _is_reinforcement(value: Mapping[str, Any]) -> bool:
    if value.keys() <= _CHAT_KEYS:
        return False
    messages = value["messages"]
    if not is_array(messages) or not messages:
        return False
    last = messages[-1]
    return is_object(last) and last.get("role") in {"user", "developer", "tool"}


def detect_row_format(values: Iterable[Mapping[str, Any]]) -> RowFormat:
    """Return the format of most rows; prompt/completion where no row implies one."""
    counts: Counter[RowFormat] = Counter(
        shape for value in values if (shape := row_format_of(value)) is not None
    )
    if not counts:
        return "prompt_completion"
    return max(counts, key=counts.__getitem__)


set_public_module(globals(), "tunesmith.datasets")
