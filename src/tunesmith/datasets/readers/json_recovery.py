"""Finds where the next value of a JSON document begins when one is broken.

Brackets are matched first; strings end with their line, as JSON demands, so one missing quote
spoils no more than a line. Where brackets do not match, or their end lies beyond a text that
begins as the rows do, that beginning counts. It knows nothing of files: only of a text.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONGEST_SEARCH", "WRAPPED_ROWS", "RowStart", "find_next_value"]

LONGEST_SEARCH: Final = 1 << 26
"""Characters of a broken value after which the search is given up."""
WRAPPED_ROWS: Final = re.compile(
    r'\{\s*"(?:data|dataset|examples|instances|items|records|rows|samples|train)"\s*:\s*\['
)
"""The beginning of an object that holds all rows in one array."""

_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*(?:"|(?=\n)|\Z)|[\[\]{}]')
_KEY: Final = re.compile(r'\{\s*("(?:[^"\\\n]|\\.)*")\s*:')
_AFTER_VALUE: Final = re.compile(r"\s*(?:[,\]}\[{]|\Z)")
_SCRAP: Final = re.compile(r".[^,\[\]{}\n]*", re.DOTALL)
_CLOSES: Final = {"}": "{", "]": "["}
_DECODER: Final = json.JSONDecoder()

# No JSON reader takes deeper values; a file of brackets alone must not be searched to its end.
_DEEPEST = 10_000


class RowStart(NamedTuple):
    """How the rows of a document begin.

    Attributes:
        pattern: Matches the brace and the first key.
        keys: The keys of the last row.
    """

    pattern: re.Pattern[str]
    keys: frozenset[str]

    @classmethod
    def of(cls, text: str, start: int, row: Mapping[str, Any]) -> Self | None:
        """Return the beginning of the row that is at `start` of a text."""
        found = _KEY.match(text, start)
        return cls(_pattern(found[1]), frozenset(row)) if found else None


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(r"\{\s*" + re.escape(key) + r"\s*:")


def find_next_value(text: str, start: int, rows: RowStart | None, *, ended: bool) -> int | None:
    """Return where to go on after the broken value at `start`; None if that cannot be told.

    Args:
        text: The text, as far as it has been read.
        start: Where the broken value begins.
        rows: How the rows before it begin, if there are any.
        ended: Whether the text is complete.
    """
    if text[start] not in "{[":
        scrap = _SCRAP.match(text, start)
        end = scrap.end() if scrap else start + 1
        return end if ended or end < len(text) else None
    closed = _end_of_brackets(text, start)
    following = _next_start(text, start, rows)
    if closed is not None and (following is None or closed <= following):
        return closed if ended or closed < len(text) else None
    return following


def _end_of_brackets(text: str, start: int) -> int | None:
    """Return the end of the bracket at `start`; None if brackets do not match, or go on."""
    open_brackets: list[str] = []
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark in _CLOSES:
            if open_brackets.pop() != _CLOSES[mark]:
                return None
            if not open_brackets:
                return token.end() if _AFTER_VALUE.match(text, token.end()) else None
        elif mark in "{[":
            open_brackets.append(mark)
            if len(open_brackets) > _DEEPEST:
                return None
    return None


def _next_start(text: str, start: int, rows: RowStart | None) -> int | None:
    """Return the next place where a row begins, told by its first key."""
    if rows is None:
        found = _KEY.match(text, start)
        rows = RowStart(_pattern(found[1]) if found else _KEY, frozenset())
    for candidate in rows.pattern.finditer(text, start + 1):
        before = text[max(start, candidate.start() - 200) : candidate.start()].rstrip()[-1:]
        if before in set(',}]"') | {""} and _may_be_row(text, candidate.start(), rows.keys):
            return candidate.start()
    return None


def _may_be_row(text: str, start: int, keys: frozenset[str]) -> bool:
    """Return whether a value is broken, too, or has most of the keys of a row."""
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return True
    return not keys or 2 * len(keys & value.keys()) > len(keys)
