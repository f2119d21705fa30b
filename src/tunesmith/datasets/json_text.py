"""JSON that was written as a text: read back as the object or array that it holds.

Tables have no nested values, so messages, tools and arguments travel in their cells as text: as
JSON, or as Python prints a list or a dictionary.
"""

from __future__ import annotations

import ast
import json
from typing import Any, Final

from .json_types import is_array, is_object

__all__ = ["decoded", "to_text"]

# Python's own parser takes much memory for each character.
_MAX_PYTHON_TEXT: Final = 1 << 17


def decoded(value: Any) -> Any:
    """Return the object or array that a text holds, however often it was encoded.

    Any other value, and a text that holds neither, is returned as it is.
    """
    text = value
    while isinstance(text, str):
        start = text.lstrip()[:1]
        if start not in {"{", "[", '"'}:
            return value
        text = _parsed(text, python=start != '"')
    return text if is_object(text) or is_array(text) else value


def _parsed(text: str, *, python: bool) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if not python or len(text) > _MAX_PYTHON_TEXT:
            return None
    try:
        value = ast.literal_eval(text.strip())
        json.dumps(value)  # what JSON cannot say, such as bytes or a set, is no JSON as text
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return value


def to_text(value: Any) -> str:
    """Return a value as JSON on one line; a text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
