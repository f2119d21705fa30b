"""The exceptions of `tunesmith.datasets`.

TunesmithError
└── DatasetError            an operation on a data set is not possible
    ├── UnreadableError     the source as a whole cannot be read: no such file, unknown format
    └── BrokenRowError      one row cannot be read; names its line and byte

Faults in data that is being *checked* are findings, not exceptions: see `findings`.
"""

from __future__ import annotations

from tunesmith._lazy import set_public_module
from tunesmith.errors import TunesmithError

__all__ = ["BrokenRowError", "DatasetError", "UnreadableError"]


class DatasetError(TunesmithError, ValueError):
    """An operation on a data set is not possible."""


class UnreadableError(DatasetError):
    """A source as a whole cannot be read."""


class BrokenRowError(DatasetError):
    """A row cannot be read.

    Attributes:
        line: Its line, counted from 1.
        byte_offset: Where the fault lies in the file, or None where the source has no bytes.
    """

    def __init__(self, message: str, line: int, byte_offset: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.byte_offset = byte_offset

    def __reduce__(self) -> tuple[type[BrokenRowError], tuple[str, int, int | None]]:
        """Pickle with all three arguments."""
        return type(self), (str(self), self.line, self.byte_offset)


set_public_module(globals(), "tunesmith.datasets")
