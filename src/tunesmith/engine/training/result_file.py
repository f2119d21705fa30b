"""The result file: one CSV row per step, in the columns of the hosted service.

Cells are empty, not 0, where nothing was computed.
"""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING

from tunesmith.engine.domain.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .spec import StepRecord, TrainingSpec

__all__ = ["ResultFile", "classification_columns"]

_COLUMNS = (
    "step",
    "elapsed_tokens",
    "elapsed_examples",
    "training_loss",
    "training_sequence_accuracy",
    "training_token_accuracy",
    "validation_loss",
    "validation_sequence_accuracy",
    "validation_token_accuracy",
)


def classification_columns(spec: TrainingSpec) -> list[str]:
    """Return the names of the job's classification metrics, without "classification/"."""
    if not spec.compute_classification_metrics:
        return []
    if spec.classification_positive_class is None:
        return ["accuracy", "weighted_f1_score"]
    betas = [f"f{beta}" for beta in spec.classification_betas or [1.0]]
    return ["accuracy", "precision", "recall", *betas, "auroc", "auprc"]


class ResultFile:
    """Appends a row per step, after truncating the file to an earlier length.

    Args:
        path: The file; created if it does not exist.
        classification: Names of the classification metrics.
        extra: Names of the objective's own metrics.
        length: Truncate the file to this many bytes; 0 starts a new one.

    Raises:
        TrainingError: The file is shorter than that: rows have been lost.
    """

    def __init__(
        self, path: Path, classification: Sequence[str], extra: Sequence[str], length: int
    ) -> None:
        self.path = path
        self._classification = classification
        self._extra = extra
        path.touch()
        if path.stat().st_size < length:
            msg = (
                f"The training cannot resume: rows of its result file {path} have been lost since "
                "they were written. Check the disk, then create the job again."
            )
            raise TrainingError(msg, "corrupt_checkpoint")
        os.truncate(path, length)
        if length == 0:
            header = [*_COLUMNS, *(f"classification/{name}" for name in classification), *extra]
            self._append(header)

    def add(self, record: StepRecord) -> None:
        """Append the row of a step."""
        validation = record.validation
        values = [
            record.training_loss,
            record.training_sequence_accuracy,
            record.training_token_accuracy,
            validation.loss if validation else None,
            validation.sequence_accuracy if validation else None,
            validation.token_accuracy if validation else None,
            *(record.classification.get(name) for name in self._classification),
            *(record.extra.get(name) for name in self._extra),
        ]
        counts = [record.step, record.elapsed_tokens, record.elapsed_examples]
        self._append([*counts, *(None if v is None else format(v, ".8g") for v in values)])

    def sync(self) -> int:
        """Flush all rows to the disk and return the file's length in bytes."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        return self.path.stat().st_size

    def _append(self, row: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line.getvalue())
