"""Rows and their four formats.

A row is a JSON object with its location in its source. Formats:

* prompt_completion: `{"prompt": str, "completion": str}`
* chat: `{"messages": [...], "tools"?: [...], "parallel_tool_calls"?: bool}`
* preference: `{"input": {"messages": [...]}, "preferred_output": [...],
  "non_preferred_output": [...]}`
* reinforcement: `{"messages": [...], "tools"?: [...]}` and any other keys, for the grader
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tunesmith._lazy import set_public_module

from .recognition import recognise, recognise_rows

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
    """Return the format of a row where it is one of the four, or else None."""
    found = recognise(value)
    if found is None or found.name != found.target:
        return None
    return found.target


def detect_row_format(values: Iterable[Mapping[str, Any]]) -> RowFormat:
    """Return the format of most rows; prompt/completion where no row has a known one.

    For rows of another known format it is the one to which they can be converted.
    """
    found = recognise_rows(values)
    return found.target or "prompt_completion" if found else "prompt_completion"


set_public_module(globals(), "tunesmith.datasets")
