"""Whether a JSON value that somebody sent can be sent back to everyone who lists it.

`json.loads` takes more than JSON has: NaN, numbers that overflow to infinity, halves of
surrogate pairs, which UTF-8 cannot express, and nesting that the next encoder fails on.
"""

from __future__ import annotations

import math
from typing import Any, cast

__all__ = ["MAX_DEPTH", "find_json_fault"]

MAX_DEPTH = 32


def find_json_fault(value: Any, max_depth: int = MAX_DEPTH) -> str | None:
    """Return what prevents a decoded JSON value from being written as JSON again, or None.

    Args:
        value: As `json.loads` returns it.
        max_depth: Most levels of nesting.
    """
    return _find_fault(value, max_depth, max_depth)


def _find_fault(value: Any, levels: int, max_depth: int) -> str | None:
    if levels < 0:
        return f"it is nested more than {max_depth} levels deep"
    if isinstance(value, str):
        return _find_text_fault(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a JSON number"
    children: list[Any] = []
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        children = [*pairs.keys(), *pairs.values()]
    elif isinstance(value, list):
        children = value
    return next(
        (fault for child in children if (fault := _find_fault(child, levels - 1, max_depth))), None
    )


def _find_text_fault(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x} is half of a surrogate pair, which is no character"
    return None
