"""How notebooks show wire objects and tables: plain tables in the notebook's own theme.

All text is escaped: a file's name or a server's message may hold anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, cast

from tunesmith._notebook import table

__all__ = ["cell", "list_html", "object_html"]

# Fields that hold Unix times.
_TIMES = frozenset({"created", "created_at", "updated_at", "finished_at", "expires_at"})
_TIMES |= {"estimated_finish"}


def object_html(value: Any) -> str:
    """Return one object as a table of its fields; those without a value are left out."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{cell(inner, name)}</td></tr>"
        for name, inner in value
        if inner is not None
    )
    caption = escape(type(value).__name__.partition("[")[0])
    return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>"


def list_html(values: Sequence[Any], caption: str | None = None) -> str:
    """Return objects of one kind as a table with the columns of that kind, one row each."""
    if not values:
        return f"<p>{escape(caption or 'Nothing.')}</p>"
    columns = values[0].list_columns or tuple(type(values[0]).model_fields)[:6]
    rows = [[cell(getattr(one, name, None), name) for name in columns] for one in values]
    return table(columns, rows, caption)


def _moment(seconds: float) -> str:
    """Return a Unix time; a dash for 0, which stands for none, and a number that is no time."""
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return escape(str(seconds))
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", moment) if seconds else "-"


def cell(value: object, name: str = "") -> str:
    """Return a field's value as HTML; `name` says which numbers are Unix times, shown in UTC."""
    if name in _TIMES and isinstance(value, int | float):
        return _moment(value)
    if hasattr(value, "list_columns"):
        return object_html(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value).items()
        return "<br>".join(f"{escape(str(key))}: {cell(inner, str(key))}" for key, inner in pairs)
    if isinstance(value, list):
        items = cast("list[object]", value)
        if items and hasattr(items[0], "list_columns"):
            return list_html(items)
        return "<br>".join(cell(item) for item in items)
    return "" if value is None else escape(str(value))
