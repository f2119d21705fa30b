"""How notebooks show a result file: the summary, then the last rows."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tunesmith.types.html import table

if TYPE_CHECKING:
    from .summary import Summary
    from .table import Results

__all__ = ["results_html", "summary_html"]

SHOWN_ROWS = 10


def results_html(results: Results) -> str:
    """Return the summary and the last rows as HTML. All text of the file is escaped."""
    first = max(0, len(results) - SHOWN_ROWS)
    rows = [
        [_shown(results.cells[name][index]) for name in results.columns]
        for index in range(first, len(results))
    ]
    caption = f"last {len(results) - first} of {len(results)} steps"
    return summary_html(results.summary()) + table(results.columns, rows, caption)


def summary_html(summary: Summary) -> str:
    """Return the lines of a summary as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in summary.lines())}</ul>"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
