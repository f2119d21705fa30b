"""What every reader yields: batches of rows with their locations, and the faults between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.datasets.findings import Fault, Location, excerpt_of
from tunesmith.datasets.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "Batch",
    "ChunkLocations",
    "FileSource",
    "ListLocations",
    "RowLocations",
    "Source",
    "pairs_of",
]


class RowLocations(Protocol):
    """The locations of the rows of a batch."""

    def line(self, index: int) -> int:
        """Return the line of a row, counted from the first line that was read."""
        ...

    def offset(self, index: int) -> int | None:
        """Return the byte at which a row starts, or None where the source has no bytes."""

    def excerpt(self, index: int) -> str:
        """Return a short piece of the row's text, or "" where the source has no text."""
        ...

    def sizes(self) -> list[int] | None:
        """Return the bytes of each row's text, where they are known."""


@dataclass(slots=True)
class ChunkLocations:
    """Rows that are the successive lines of a chunk of a file; locations are computed on demand.

    Attributes:
        chunk: Whole lines.
        first_line: Number of the first one.
        first_offset: Where the chunk starts in the file.
    """

    chunk: bytes
    first_line: int
    first_offset: int
    _starts: list[int] | None = None

    def starts(self) -> list[int]:
        """Return where each line starts in the chunk."""
        if self._starts is None:
            lengths = (len(line) + 1 for line in self.chunk.split(b"\n"))
            self._starts = list(accumulate(lengths, initial=0))
        return self._starts

    def line(self, index: int) -> int:
        """See `RowLocations.line`."""
        return self.first_line + index

    def offset(self, index: int) -> int:
        """See `RowLocations.offset`."""
        return self.first_offset + self.starts()[index]

    def sizes(self) -> list[int]:
        """See `RowLocations.sizes`."""
        starts = self.starts()
        return list(map(sub, starts[1:], starts))

    def excerpt(self, index: int) -> str:
        """See `RowLocations.excerpt`."""
        starts = self.starts()
        text = self.chunk[starts[index] : starts[index + 1] - 1]
        return excerpt_of(text[:400].decode("utf-8", "replace"))


@dataclass(slots=True)
class ListLocations:
    """Rows whose lines and offsets were recorded while reading."""

    lines: list[int] = field(default_factory=list[int])
    offsets: list[int] | None = None
    texts: list[str] = field(default_factory=list[str])

    def append(self, line: int, offset: int, text: str) -> None:
        """Record the location of the next row and the beginning of its text."""
        self.lines.append(line)
        if self.offsets is not None:
            self.offsets.append(offset)
        self.texts.append(text)

    def line(self, index: int) -> int:
        """See `RowLocations.line`."""
        return self.lines[index]

    def offset(self, index: int) -> int | None:
        """See `RowLocations.offset`."""
        return self.offsets[index] if self.offsets else None

    def sizes(self) -> None:
        """See `RowLocations.sizes`."""
        return

    def excerpt(self, index: int) -> str:
        """See `RowLocations.excerpt`."""
        return excerpt_of(self.texts[index]) if self.texts else ""


class Batch:
    """Successive rows of a source.

    Attributes:
        locations: The location of each row.
        lines: How many lines of the source the batch covers, rows or not.
        faults: What could not be read.
        pairs: Prompts and completions, where it is known that each row is these two strings and
            nothing else.
        conversations: Rows with `messages`, each of them with `role` and `content`, where it is
            known that each row is such strings of the three common roles and nothing else.

    Args:
        values: The rows, or a function that returns them when they are first needed.
    """

    def __init__(
        self,
        values: list[dict[str, Any]] | Callable[[], list[dict[str, Any]]],
        locations: RowLocations,
        lines: int,
        *,
        faults: list[Fault] | None = None,
        pairs: tuple[list[str], list[str]] | None = None,
        conversations: list[Any] | None = None,
    ) -> None:
        self._values = values
        self.locations = locations
        self.lines = lines
        self.faults: list[Fault] = [] if faults is None else faults
        self.pairs = pairs
        self.conversations = conversations

    @property
    def values(self) -> list[dict[str, Any]]:
        """The rows that are JSON objects, in order."""
        if callable(self._values):
            self._values = self._values()
        return self._values

    def __len__(self) -> int:
        if self.pairs is not None:
            return len(self.pairs[0])
        return len(self.values if self.conversations is None else self.conversations)

    def location(self, index: int, path: str = "", message: str = "") -> Location:
        """Return the location of something in row `index` of the batch."""
        return Location(
            line=self.locations.line(index),
            byte_offset=self.locations.offset(index),
            path=path,
            message=message,
            excerpt=self.locations.excerpt(index),
        )

    def rows(self, file: str | None) -> Iterator[Row]:
        """Yield the rows with their locations."""
        line, offset = self.locations.line, self.locations.offset
        for index, value in enumerate(self.values):
            yield Row(value, line(index), offset(index), file)


class Source(Protocol):
    """A data set that can be read from its start, any number of times.

    Attributes:
        name: Name of the file, or None.
        format: "jsonl", "csv", …, or "rows" for data in memory.
        size: Bytes of the file, or None.
    """

    name: str | None
    format: str
    size: int | None

    def batches(self) -> Iterator[Batch]:
        """Yield all rows, in order; line numbers count from 1."""
        ...


class FileSource:
    """A source that reads a file; the readers of the formats derive from it.

    Args:
        path: The file.

    Attributes:
        rows_are_lines: Whether a row starts where its line does.
    """

    format: str
    rows_are_lines: bool = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name: str | None = str(path)
        self.size: int | None = path.stat().st_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def pairs_of(values: list[dict[str, Any]]) -> tuple[list[str], list[str]] | None:
    """Return prompts and completions where each row is these two strings and nothing else."""
    if set(map(len, values)) != {2}:
        return None
    try:
        prompts = list(map(itemgetter("prompt"), values))
        completions = list(map(itemgetter("completion"), values))
    except KeyError:
        return None
    strings = {*map(type, prompts), *map(type, completions)} == {str}
    return (prompts, completions) if strings else None
