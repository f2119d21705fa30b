"""Rows that training and validation data share, as an `Overlap` or as findings.

Both sides are passed in as rows: nothing here reads a file or knows a `Dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .findings import Finding, Location, LocationCounter
from .near_duplicates import DEFAULT_THRESHOLD, cluster, row_digest, sketch_row
from .pairs import as_rows
from .rows import detect_row_format
from .rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .pairs import AnyRow
    from .rows import Row

__all__ = ["Overlap", "SharedRow", "check_overlap", "overlap_findings"]


@dataclass(frozen=True, slots=True)
class SharedRow:
    """A validation row that is also in the training data.

    Attributes:
        training_line: Line of the first such row in the training data.
        validation_line: Its line in the validation data.
        exact: Whether the whole rows are the same; otherwise only the prompts are almost the same.
    """

    training_line: int
    validation_line: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Overlap:
    """What training and validation data share.

    Attributes:
        shared: The validation rows that are also in the training data, in their order.
        validation_rows: How many validation rows there are.
    """

    shared: tuple[SharedRow, ...]
    validation_rows: int

    @property
    def exact(self) -> int:
        """Validation rows that are also training rows."""
        return sum(row.exact for row in self.shared)

    @property
    def near(self) -> int:
        """Validation rows whose prompt is almost the same as that of a training row."""
        return len(self.shared) - self.exact

    def __bool__(self) -> bool:
        """Whether anything is shared."""
        return bool(self.shared)

    def __str__(self) -> str:
        """Return the result as a sentence, with the first shared row."""
        if not self.shared:
            return "Training and validation data share no row."
        first = self.shared[0]
        return (
            f"Of {self.validation_rows:,} validation rows, {self.exact:,} are also training rows "
            f"and {self.near:,} are almost the same; the first is line {first.validation_line}, "
            f"which is line {first.training_line} of the training data."
        )


def check_overlap(
    training: Iterable[AnyRow],
    validation: Iterable[AnyRow],
    threshold: float = DEFAULT_THRESHOLD,
) -> Overlap:
    """Find the validation rows that the training data contains, exactly or nearly.

    Args:
        training: Training rows of any shape.
        validation: Validation rows.
        threshold: Jaccard similarity from which prompts count as almost the same.
    """
    first, second = list(as_rows(training)), list(as_rows(validation))
    known: dict[bytes, int] = {}
    for row in first:
        known.setdefault(row_digest(row.value, 0), row.line)
    keys = cluster([sketch_row(row.value) for row in (*first, *second)], threshold)
    near: dict[int, int] = {}
    for row, key in zip(first, keys, strict=False):
        near.setdefault(key, row.line)
    shared: list[SharedRow] = []
    for row, key in zip(second, keys[len(first) :], strict=True):
        exact = known.get(row_digest(row.value, 0))
        line = near.get(key) if exact is None else exact
        if line is not None:
            shared.append(SharedRow(line, row.line, exact is not None))
    return Overlap(tuple(shared), len(second))


def overlap_findings(
    training: Iterable[Row], validation: Iterable[Row], max_examples: int
) -> list[Finding]:
    """Return findings about validation rows that are also in the training data.

    Args:
        training: The training rows.
        validation: The validation rows; the findings name their lines.
        max_examples: Locations to keep; 0 for all.
    """
    training, validation = list(training), list(validation)
    findings: list[Finding] = []
    formats = [detect_row_format(row.value for row in rows) for rows in (training, validation)]
    if formats[0] != formats[1]:
        detail = f"{formats[1]}, not {formats[0]}"
        findings.append(make_finding("validation-shape", LocationCounter(1, 1), detail=detail))
    rows = {row.line: row for row in validation}
    exact, near = LocationCounter(max_examples), LocationCounter(max_examples)
    for shared in check_overlap(training, validation).shared:
        row = rows[shared.validation_line]
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
