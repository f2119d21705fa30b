"""Rows that training and validation data share: what `split.check_overlap` found, as findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.datasets.findings import Finding, Location, LocationCounter
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from tunesmith.datasets.dataset import Dataset

__all__ = ["overlap_findings"]


def overlap_findings(training: Dataset, validation: Dataset, max_examples: int) -> list[Finding]:
    """Return findings about validation rows that are in the training data, too.

    Args:
        training: The training data; broken lines of either are left out.
        validation: The validation data; locations are in it.
        max_examples: Locations to keep; 0 for all.
    """
    from tunesmith.datasets.split import check_overlap  # noqa: PLC0415 - as needed

    findings: list[Finding] = []
    if training.shape != validation.shape:
        detail = f"{validation.shape}, not {training.shape}"
        findings.append(make_finding("validation-shape", LocationCounter(1, 1), detail=detail))
    rows = list(validation.readable_rows())
    locations = {row.line: row for row in rows}
    exact, near = LocationCounter(max_examples), LocationCounter(max_examples)
    for shared in check_overlap(training.readable_rows(), rows).shared:
        row = locations[shared.validation_line]
        words = "the same row as" if shared.exact else "almost the same prompt as"
        message = f"{words} line {shared.training_line} of the training data"
        (exact if shared.exact else near).add(
            Location(row.line, row.byte_offset, message=message, file=row.file)
        )
    if exact.count:
        findings.append(make_finding("validation-overlap", exact))
    if near.count:
        findings.append(make_finding("validation-near-overlap", near))
    return findings
