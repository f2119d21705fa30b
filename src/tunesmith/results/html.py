"""How notebooks show a result file: the summary, then the last rows."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import Results

__all__ = ["results_html"]

SHOWN_ROWS = 10


def results_html(results: Results) -> str:
    """Return the summary and the last rows as HTML. All text of the file is escaped."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in results.summary().lines())
    header = "".join(f"<th>{escape(name)}</th>" for name in results.columns)
    first = max(0, len(results) - SHOWN_ROWS)
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{_shown(results.cells[name][index])}</td>" for name in results.columns)
        + "</tr>"
        for index in range(first, len(results))
    )
    caption = f"last {len(results) - first} of {len(results)} steps"
    return (
        f"<ul>{lines}</ul><table><caption>{caption}</caption>"
        f"<thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
