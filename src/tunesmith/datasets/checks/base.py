"""What a check is: it observes rows, merges with what follows, and concludes findings.

The instance of a check is its partial result. It is built from `CheckSettings`, so every process
starts with the same; `merge` is associative and takes the number of lines that precede what
it adds, because each range of a file counts its lines from 1. No check depends on how rows were
split into batches or ranges: every split gives the same findings.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, Self

from tunesmith.datasets.readers.batch import ChunkLocations

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.datasets.findings import Finding, Location
    from tunesmith.datasets.readers.batch import Batch
    from tunesmith.datasets.rows import RowFormat

    from .settings import CheckSettings

__all__ = ["Check", "CheckedData", "ValidRows"]


class ValidRows:
    """The rows of a batch that follow the rules of their format.

    Args:
        batch: The batch.
        row_format: Format of the rows.
        indices: Which rows of the batch are valid; None for all.

    Attributes:
        row_format: Format of the rows.
    """

    def __init__(self, batch: Batch, row_format: RowFormat, indices: list[int] | None) -> None:
        self.row_format: RowFormat = row_format
        self._batch = batch
        self._indices = indices

    def __len__(self) -> int:
        return len(self._batch) if self._indices is None else len(self._indices)

    @cached_property
    def values(self) -> list[dict[str, Any]]:
        """The rows as JSON objects."""
        values = self._batch.values
        return values if self._indices is None else [values[index] for index in self._indices]

    def _index(self, index: int) -> int:
        return index if self._indices is None else self._indices[index]

    def location(self, index: int, path: str = "", message: str = "") -> Location:
        """Return the location of something in a row."""
        return self._batch.location(self._index(index), path, message)

    def contiguous(self) -> tuple[int, int] | None:
        """Return line and offset of the first row if the rows are successive lines of a file."""
        locations = self._batch.locations
        if self._indices is None and isinstance(locations, ChunkLocations):
            return locations.first_line, locations.first_offset
        return None

    def line(self, index: int) -> int:
        """Return the line of a row."""
        return self._batch.locations.line(self._index(index))

    def offset(self, index: int) -> int | None:
        """Return where a row starts in the file, or None where that is not known."""
        return self._batch.locations.offset(self._index(index))

    def sizes(self) -> list[int] | None:
        """Return for each row a number of bytes that its tokens cannot exceed, where known."""
        sizes = self._batch.locations.sizes()
        if sizes is None or self._indices is None:
            return sizes
        return [sizes[index] for index in self._indices]

    @property
    def pairs(self) -> tuple[list[str], list[str]] | None:
        """The rows as `Batch.pairs` has them, if they are all as plain as that."""
        return self._batch.pairs if self._indices is None else None

    @cached_property
    def prompts(self) -> list[str]:
        """The prompts of prompt/completion rows."""
        if self.pairs is not None:
            return self.pairs[0]
        return list(map(itemgetter("prompt"), self.values))

    @cached_property
    def completions(self) -> list[str]:
        """The completions of prompt/completion rows."""
        if self.pairs is not None:
            return self.pairs[1]
        return list(map(itemgetter("completion"), self.values))

    @cached_property
    def completion_counts(self) -> Counter[str]:
        """How often each completion occurs; where classes repeat, a few stand for many rows."""
        return Counter(self.completions)

    @property
    def conversations(self) -> list[Any] | None:
        """The rows as `Batch.conversations` has them, if they are all as plain as that."""
        return self._batch.conversations if self._indices is None else None


@dataclass(slots=True)
class CheckedData:
    """What is known about the whole data set when the checks conclude.

    Attributes:
        settings: What the check went by.
        rows: Rows that follow the rules of their format.
        lines: Lines of the source.
        path: The file, if there is one and its rows are lines.
    """

    settings: CheckSettings
    rows: int
    lines: int
    path: Path | None = None


class Check(Protocol):
    """The partial result of one check."""

    def observe(self, rows: ValidRows) -> None:
        """Add some rows."""

    def merge(self, following: Self, lines: int) -> None:
        """Add the partial result of the rows that follow; `lines` lines precede them."""

    def conclude(self, data: CheckedData) -> list[Finding]:
        """Return what was found in all rows."""
        ...
