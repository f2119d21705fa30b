"""Why a training cannot go on. Each message is written for the job's owner."""

from __future__ import annotations

from typing import Literal

from tunesmith.errors import TunesmithError

__all__ = ["ErrorCode", "TrainingError"]

ErrorCode = Literal[
    "invalid_training_file",
    "invalid_validation_file",
    "invalid_hyperparameters",
    "invalid_model",
    "corrupt_checkpoint",
    "out_of_memory",
    "disk_full",
]


class TrainingError(TunesmithError):
    """A training failed for a reason that trying again would not change.

    Attributes:
        code: What kind of reason, for programs.
    """

    def __init__(self, message: str, code: ErrorCode) -> None:
        super().__init__(message)
        self.code: ErrorCode = code

    def __reduce__(self) -> tuple[type[TrainingError], tuple[str, ErrorCode]]:
        return type(self), (str(self), self.code)
