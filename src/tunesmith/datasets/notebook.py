"""Data sets, splits and plans as a notebook shows them: small tables, every text escaped.

Only the start of a source is read, as for `repr`; a plan's fixes are counted once.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith._notebook import table

from .dataset_errors import DatasetError

if TYPE_CHECKING:
    from .planned_fixes import PlannedFixes

__all__ = ["dataset_html", "plan_html", "split_html"]

_ROWS = 5
_COLUMNS = 8
_CHARACTERS = 300


class Rows(Protocol):
    """What is asked of a data set."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def first_rows(self, count: int) -> list[dict[str, Any]]:
        """Return the first rows."""
        ...


def dataset_html(dataset: Rows) -> str:
    """Return a data set's first rows under its name, formats and size."""
    title = f"<p><code>{escape(repr(dataset))}</code></p>"
    try:
        rows = dataset.first_rows(_ROWS)
    except (DatasetError, OSError) as error:
        return f"{title}<p>{escape(str(error))}</p>"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = columns[:_COLUMNS]
    body = [[_cell(row.get(name)) for name in shown] for row in rows]
    more = len(columns) - len(shown)
    note = f"<p>… and {more} more columns</p>" if more else ""
    return f"{title}{table(shown, body)}{note}"


def split_html(training: Rows, validation: Rows) -> str:
    """Return both sides of a split, one below the other."""
    return "".join(
        f"<p><strong>{name}: {len(side):,} rows</strong></p>{dataset_html(side)}"
        for name, side in (("training", training), ("validation", validation))
    )


def plan_html(plan: PlannedFixes) -> str:
    """Return a plan's fixes: which are applied, how many rows each changes, and how."""
    about = [repr(plan.name) if plan.name else "in memory"]
    if plan.task is not None:
        about.append(plan.task)
    title = f"<p><strong>Plan</strong> for {escape(', '.join(about))}"
    if plan.format is not None:
        title += f": <code>{escape(repr(plan.format))}</code>"
    try:
        fixes = plan.fixes
    except (DatasetError, OSError) as error:
        return f"{title}</p><p>{escape(str(error))}</p>"
    if not fixes:
        return f"{title}</p><p>Nothing needs to be changed.</p>"
    rows = [
        (
            "yes" if fix.enabled else "no",
            f"<code>{escape(fix.id)}</code>",
            f"{fix.count:,}",
            escape(fix.description),
        )
        for fix in fixes
    ]
    return f"{title}</p>{table(('applied', 'fix', 'rows', 'what it does'), rows)}"


def _cell(value: object) -> str:
    """Return a value as HTML: a conversation as lines of who says what, all else as JSON."""
    items: list[Any] = value if isinstance(value, list) else []
    if items and all(isinstance(item, dict) and "role" in item for item in items):
        return "<br>".join(
            f"<strong>{escape(str(message['role']))}</strong>: {_text(message.get('content'))}"
            for message in items
        )
    return "" if value is None else _text(value)


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    cut = text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"
    return escape(cut).replace("\n", "<br>")
