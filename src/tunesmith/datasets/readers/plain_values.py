"""Values of frames and tables as JSON data.

Missing values are null, numbers of other libraries plain numbers, dates text as in ISO 8601, bytes
text where they are UTF-8. What JSON cannot say otherwise becomes the text that Python shows.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from .nested_nulls import without_null_fields

__all__ = ["plain", "plain_rows"]

_AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})
_MISSING: Final = frozenset({"NaTType", "NAType"})
_DEEPEST: Final = 200


def plain_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON data; null fields of structs are left out."""
    return [without_null_fields(_plain_object(row, 0)) for row in rows]


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON data."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _not_finite(value)
    if depth > _DEEPEST:
        return value  # too deep for any reader; checks name it
    if isinstance(value, Mapping):
        return _plain_object(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return _plain_items(value, depth)
    return _plain_scalar(value, depth)


def _not_finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain_object(value: Any, depth: int) -> dict[str, Any]:
    return {
        key if type(key) is str else str(key): item
        if type(item) in _AS_THEY_ARE
        else plain(item, depth + 1)
        for key, item in value.items()
    }


def _plain_items(value: Any, depth: int) -> list[Any]:
    return [plain(item, depth + 1) for item in value]


def _plain_scalar(value: Any, depth: int) -> Any:
    found = value
    if isinstance(value, str):  # of a class of its own, such as an enumeration
        found = str.__str__(value)
    elif isinstance(value, int):
        found = int(value)
    elif type(value).__name__ in _MISSING:
        found = None
    elif isinstance(value, dt.datetime):
        found = value.isoformat(sep=" ")
    elif isinstance(value, dt.date | dt.time | dt.timedelta | Decimal):
        found = str(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        found = _text_of_bytes(bytes(value))
    elif hasattr(value, "tolist"):  # arrays and scalars of numpy
        found = plain(value.tolist(), depth + 1)
    return found


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")
