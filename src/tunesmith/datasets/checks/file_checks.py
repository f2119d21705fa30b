"""Findings about the data as a whole: the number of rows, the size and encoding of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tunesmith.datasets.findings import Finding, Location, LocationCounter
from tunesmith.datasets.readers.lines import byte_order_mark
from tunesmith.datasets.recognition import DATA_FORMATS
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.datasets.destinations import Destination
    from tunesmith.datasets.findings import Severity
    from tunesmith.datasets.report import Report
    from tunesmith.datasets.rows import RowFormat

__all__ = ["destination_findings", "file_findings", "row_count_findings"]

_ADVISED_ROWS: Final = {
    "classification": 200,
    "conditional generation": 500,
    "open-ended generation": 500,
    "chat": 50,
}
"""How many rows the fine-tuning guides advise, by task; classes have a check of their own."""


def destination_findings(
    destination: Destination, row_format: RowFormat, model: str | None
) -> list[Finding]:
    """Return findings about the destination itself: what can no longer be trained there."""
    one = LocationCounter(1, 1)
    if destination.retired:
        return [make_finding("destination-retired", one, detail=destination.retired)]
    findings: list[Finding] = []
    if model is None:
        if date := destination.retired_shapes.get(row_format):
            detail = f"{row_format} at {destination.name}, since {date}"
            findings.append(make_finding("shape-retired", one, detail=detail))
        return findings
    if date := destination.retired_on(model):
        detail = f"{model} at {destination.name}, since {date}"
        findings.append(make_finding("model-retired", one, detail=detail))
    shapes = destination.shapes_of(model)
    if row_format not in shapes and row_format in destination.shapes:
        detail = f"{row_format}; {model} learns from {', '.join(shapes)}"
        findings.append(make_finding("model-shape", one, detail=detail))
    return findings


def row_count_findings(report: Report, destination: Destination) -> list[Finding]:
    """Return findings about the number of rows and their format."""
    rows = report.rows
    if rows == 0:
        if any(finding.severity == "error" for finding in report.findings):
            return []
        return [make_finding("file-empty", LocationCounter(1, 1))]
    findings: list[Finding] = []
    if report.shape not in destination.shapes:
        accepted = ", ".join(destination.shapes)
        detail = (
            f"{report.shape}, with {DATA_FORMATS[report.shape].keys}; {destination.name} accepts "
            f"{accepted}"
        )
        findings.append(make_finding("shape-unsupported", LocationCounter(1, 1), detail=detail))
    if rows < destination.minimum_rows:
        detail = f"{rows} of at least {destination.minimum_rows} ({destination.name})"
        findings.append(make_finding("rows-too-few", LocationCounter(1, 1), detail=detail))
    if destination.maximum_rows is not None and rows > destination.maximum_rows:
        detail = f"{rows:,} of at most {destination.maximum_rows:,} ({destination.name})"
        findings.append(make_finding("rows-too-many", LocationCounter(1, 1), detail=detail))
    advised = _ADVISED_ROWS.get(report.task or "chat", 0)
    if rows < advised:
        detail = f"{advised:,} or more are advised"
        findings.append(make_finding("row-count", LocationCounter(1, rows), detail=detail))
    return findings


def file_findings(path: Path, format: str, destination: Destination) -> list[Finding]:  # noqa: A002 - the word
    """Return findings about a file: its format, size and byte order mark."""
    findings: list[Finding] = []
    if format != "jsonl":
        detail = f"it is {_FORMAT_WORDS.get(format, format.upper())}"
        findings.append(make_finding("file-format", LocationCounter(1, 1), detail=detail))
    size = path.stat().st_size
    if destination.maximum_bytes is not None and size > destination.maximum_bytes:
        detail = f"{size:,} of at most {destination.maximum_bytes:,} bytes ({destination.name})"
        findings.append(make_finding("file-size", LocationCounter(1, 1), detail=detail))
    return findings + _byte_order_mark_findings(path, destination)


_FORMAT_WORDS: Final = {"json": "a JSON document over several lines", "txt": "plain text"}


def _byte_order_mark_findings(path: Path, destination: Destination) -> list[Finding]:
    with path.open("rb") as stream:
        mark, encoding = byte_order_mark(stream.read(4))
    if mark and encoding != "utf-8":
        location = Location(1, 0, message=f"the file is {encoding.upper()}, not UTF-8")
        return [make_finding("encoding", LocationCounter(1, 1, [location]))]
    if destination.byte_order_mark == "required" and not mark:
        detail = f"{destination.name} requires UTF-8 with a byte order mark"
        return [make_finding("file-bom-missing", LocationCounter(1, 1), detail=detail)]
    if mark and destination.byte_order_mark != "required":
        unwanted = destination.byte_order_mark == "unwanted"
        detail = "save the file as plain UTF-8" if unwanted else "it is skipped"
        severity: Severity = "warning" if unwanted else "info"
        return [make_finding("file-bom", LocationCounter(1, 1), severity=severity, detail=detail)]
    return []
