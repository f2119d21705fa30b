"""The report for a terminal: findings with their first locations, errors first."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.findings import Finding, Location

    from .renderable import Renderable

__all__ = ["headline", "to_text"]

_COLOURS: Final = {"error": "31", "warning": "33", "info": "36", "dim": "2", "good": "32"}
_NARROWEST: Final = 40


def to_text(report: Renderable, width: int = 80, *, colour: bool = False) -> str:
    """Return the report as lines of at most `width` characters, with a line end at the end."""
    return "\n".join(_lines(report, max(width, _NARROWEST), colour=colour)) + "\n"


def headline(report: Renderable) -> str:
    """Return what was checked, in one line."""
    words = {"prompt_completion": "prompt/completion"}.get(report.shape, report.shape)
    text = (
        f"{report.name or 'data'}: {report.rows:,} {words} {'row' if report.rows == 1 else 'rows'}"
    )
    if report.task:
        text += f", {report.task}"
    return f"{text} (for {report.profile})"


def _lines(report: Renderable, width: int, *, colour: bool) -> Iterator[str]:
    yield from textwrap.wrap(headline(report), width)
    if report.tokens is not None:
        longest = f", the longest row {report.longest_row:,}" if report.longest_row else ""
        yield f"{report.tokens:,} tokens of {report.encoding}{longest}"
    for finding in report.findings:
        yield ""
        yield from _finding(finding, width, colour=colour)
    yield ""
    errors, warnings = len(report.errors), len(report.warnings)
    if not report.findings:
        yield _paint("No findings.", "good", colour=colour)
    else:
        total = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
        yield _paint(total, "error" if errors else "warning" if warnings else "good", colour=colour)


def _finding(finding: Finding, width: int, *, colour: bool) -> Iterator[str]:
    label = f"{finding.severity} {finding.id}"
    yield _paint(label, finding.severity, colour=colour)
    yield from textwrap.wrap(finding.message, width, initial_indent="  ", subsequent_indent="  ")
    for location in finding.examples:
        yield from _location(location, width, colour=colour)
    hidden = finding.count - len(finding.examples)
    if finding.examples and hidden > 0:
        yield f"    … and {hidden:,} more"
    if finding.fix:
        yield from textwrap.wrap(
            finding.fix, width, initial_indent="  → ", subsequent_indent="    "
        )


def _location(location: Location, width: int, *, colour: bool) -> Iterator[str]:
    path = f" {location.path}" if location.path else ""
    text = f"{location}{path}: {location.message}" if location.message else f"{location}{path}"
    yield from textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="      ")
    if location.excerpt:
        yield _paint(f"      {_fitted(location.excerpt, width - 6)}", "dim", colour=colour)


def _fitted(text: str, columns: int) -> str:
    """Return the text, shortened to the given columns; East Asian characters take two."""
    used = 0
    for position, character in enumerate(text):
        used += 2 if east_asian_width(character) in "WF" else 1
        if used > columns:
            return text[: max(0, position - 2)] + "…"
    return text


def _paint(text: str, kind: str, *, colour: bool) -> str:
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if colour else text
