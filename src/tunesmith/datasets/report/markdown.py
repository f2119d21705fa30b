"""The report as Markdown: one table, and the locations below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text import headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.findings import Finding

    from .renderable import Renderable

__all__ = ["to_markdown"]


def to_markdown(report: Renderable) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Renderable) -> Iterator[str]:
    yield f"## {_escaped(headline(report))}"
    yield ""
    if not report.findings:
        yield "No findings."
        return
    yield "| severity | finding | count | what |"
    yield "|---|---|---:|---|"
    for finding in report.findings:
        cells = (finding.severity, f"`{finding.id}`", f"{finding.count:,}")
        yield f"| {' | '.join(cells)} | {_escaped(finding.message)} |"
    for finding in report.findings:
        if finding.examples:
            yield ""
            yield from _locations(finding)


def _locations(finding: Finding) -> Iterator[str]:
    yield f"### `{finding.id}`"
    yield ""
    for location in finding.examples:
        path = f" {_code(location.path)}" if location.path else ""
        yield f"- {location}{path}: {_escaped(location.message or finding.message)}"
        if location.excerpt:
            yield f"  {_code(location.excerpt)}"
    hidden = finding.count - len(finding.examples)
    if hidden > 0:
        yield f"- … and {hidden:,} more"
    if finding.fix:
        yield ""
        yield _escaped(finding.fix)


def _escaped(text: str) -> str:
    """Return text escaped for Markdown, on one line."""
    for mark in "\\`*_{}[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")


def _code(text: str) -> str:
    """Return text as a code span; a longer fence holds text that has backticks itself."""
    fence = "`"
    while fence in text:
        fence += "`"
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"
