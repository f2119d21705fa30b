"""The report as SARIF 2.1.0, which code-scanning services and editors show at the line.

Source: OASIS Standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tunesmith.datasets.rules import RULES

if TYPE_CHECKING:
    from tunesmith.datasets.findings import Finding, Location

    from .renderable import Renderable

__all__ = ["to_sarif"]

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {"error": "error", "warning": "warning", "info": "note"}


def to_sarif(report: Renderable) -> dict[str, Any]:
    """Return the report as a SARIF log: a result for each location, or one for the whole file."""
    identifiers = sorted({finding.id for finding in report.findings})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tunesmith",
                        "rules": [_rule(identifier) for identifier in identifiers],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    result
                    for finding in report.findings
                    for result in _results(finding, report.name, identifiers)
                ],
            }
        ],
    }


def _rule(identifier: str) -> dict[str, Any]:
    rule = RULES[identifier]
    described: dict[str, Any] = {
        "id": identifier,
        "shortDescription": {"text": f"{rule.unit} {rule.summary.partition('|')[0]}"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }
    if rule.fix:
        described["help"] = {"text": rule.fix}
    return described


def _results(finding: Finding, file: str | None, identifiers: list[str]) -> list[dict[str, Any]]:
    common = {
        "ruleId": finding.id,
        "ruleIndex": identifiers.index(finding.id),
        "level": _LEVELS[finding.severity],
        "occurrenceCount": 1 if finding.examples else finding.count,
    }
    if not finding.examples:
        return [common | {"message": {"text": finding.message}} | _sarif_locations(None, file)]
    return [
        common
        | {"message": {"text": location.message or finding.message}}
        | _sarif_locations(location, file)
        for location in finding.examples
    ]


def _sarif_locations(location: Location | None, file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(file)}}
    if location is not None:
        region: dict[str, Any] = {"startLine": location.line}
        if location.column is not None:
            region["startColumn"] = location.column
        if location.byte_offset is not None:
            region["byteOffset"] = location.byte_offset
        physical["region"] = region
    described: dict[str, Any] = {"physicalLocation": physical}
    if location is not None and location.path:
        described["logicalLocations"] = [{"fullyQualifiedName": location.path}]
    return {"locations": [described]}


def _uri(file: str) -> str:
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
