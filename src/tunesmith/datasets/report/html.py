"""The report for a notebook: a self-contained fragment, every text escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from .text import headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.findings import Finding

    from .renderable import Renderable

__all__ = ["to_html"]

_COLOURS: Final = {"error": "#b3261e", "warning": "#8a5a00", "info": "#1b5e8a"}


def to_html(report: Renderable) -> str:
    """Return the report as an HTML fragment without scripts."""
    return "\n".join(_lines(report))


def _lines(report: Renderable) -> Iterator[str]:
    yield f"<div><p><strong>{escape(headline(report))}</strong></p>"
    if not report.findings:
        yield "<p>No findings.</p></div>"
        return
    for finding in report.findings:
        yield from _finding(finding)
    yield "</div>"


def _finding(finding: Finding) -> Iterator[str]:
    opened = " open" if finding.severity == "error" else ""
    colour = _COLOURS[finding.severity]
    yield (
        f'<details{opened}><summary><span style="color:{colour}">{finding.severity}</span> '
        f"<code>{escape(finding.id)}</code> {escape(finding.message)}</summary><ul>"
    )
    for location in finding.examples:
        path = f" <code>{escape(location.path)}</code>" if location.path else ""
        excerpt = f"<br><code>{escape(location.excerpt)}</code>" if location.excerpt else ""
        yield f"<li>{escape(str(location))}{path}: {escape(location.message)}{excerpt}</li>"
    hidden = finding.count - len(finding.examples)
    if finding.examples and hidden > 0:
        yield f"<li>… and {hidden:,} more</li>"
    fix = f"<p>{escape(finding.fix)}</p>" if finding.fix else ""
    yield f"</ul>{fix}</details>"
