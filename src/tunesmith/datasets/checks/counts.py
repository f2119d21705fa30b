"""How many rows there are, and what the file is like as a whole, against limits and advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tunesmith.datasets.findings import Finding, Location, LocationCounter
from tunesmith.datasets.readers.lines import byte_order_mark
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.datasets.destinations import Destination
    from tunesmith.datasets.findings import Severity
    from tunesmith.datasets.report import Report

__all__ = ["count_findings", "file_findings"]

_ADVISED_ROWS: Final = {
    "classification": 200,
    "conditional generation": 500,
    "open-ended generation": 500,
    "chat": 50,
}
"""How many rows the fine-tuning guides advise, by task; classes are looked at by themselves."""


def count_findings(report: Report, profile: Destination) -> list[Finding]:
    """Return what the number of rows calls for."""
    rows = report.rows
    if rows == 0:
        if any(finding.severity == "error" for finding in report.findings):
            return []
        return [make_finding("file-empty", LocationCounter(1, 1))]
    findings: list[Finding] = []
    if report.shape not in profile.shapes:
        detail = f"{report.shape}; {profile.name} takes {', '.join(profile.shapes)}"
        findings.append(make_finding("shape-unsupported", LocationCounter(1, 1), detail=detail))
    if rows < profile.minimum_rows:
        detail = f"{rows} of at least {profile.minimum_rows} ({profile.name})"
        findings.append(make_finding("rows-too-few", LocationCounter(1, 1), detail=detail))
    if profile.maximum_rows is not None and rows > profile.maximum_rows:
        detail = f"{rows:,} of at most {profile.maximum_rows:,} ({profile.name})"
        findings.append(make_finding("rows-too-many", LocationCounter(1, 1), detail=detail))
    advised = _ADVISED_ROWS.get(report.task or "chat", 0)
    if rows < advised:
        detail = f"aim for {advised:,} or more; each doubling helps"
        findings.append(make_finding("row-count", LocationCounter(1, rows), detail=detail))
    return findings


def file_findings(path: Path, format: str, profile: Destination) -> list[Finding]:  # noqa: A002 - the word
    """Return what is to be said about the file as a whole."""
    findings: list[Finding] = []
    if format != "jsonl":
        detail = f"it is {_FORMAT_WORDS.get(format, format.upper())}"
        findings.append(make_finding("file-format", LocationCounter(1, 1), detail=detail))
    size = path.stat().st_size
    if profile.maximum_bytes is not None and size > profile.maximum_bytes:
        detail = f"{size:,} of at most {profile.maximum_bytes:,} bytes ({profile.name})"
        findings.append(make_finding("file-size", LocationCounter(1, 1), detail=detail))
    return findings + _mark_findings(path, profile)


_FORMAT_WORDS: Final = {"json": "a JSON document over several lines", "txt": "plain text"}


def _mark_findings(path: Path, profile: Destination) -> list[Finding]:
    with path.open("rb") as stream:
        mark, encoding = byte_order_mark(stream.read(4))
    if mark and encoding != "utf-8":
        location = Location(1, 0, message=f"the file is {encoding.upper()}, not UTF-8")
        return [make_finding("encoding", LocationCounter(1, 1, [location]))]
    if profile.byte_order_mark == "required" and not mark:
        detail = f"{profile.name} wants UTF-8 with a byte order mark"
        return [make_finding("file-bom-missing", LocationCounter(1, 1), detail=detail)]
    if mark and profile.byte_order_mark != "required":
        unwanted = profile.byte_order_mark == "unwanted"
        detail = "save the file as plain UTF-8" if unwanted else "it is skipped"
        severity: Severity = "warning" if unwanted else "info"
        return [make_finding("file-bom", LocationCounter(1, 1), severity=severity, detail=detail)]
    return []
