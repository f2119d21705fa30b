"""Where rows stand, by their number: a few words for each run of rows instead of some for each."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tunesmith.datasets.findings import Location, excerpt_of

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.datasets.checks.base import ValidRows

__all__ = ["LocationIndex"]

_EXCERPT_BYTES = 400


class _Run(NamedTuple):
    """Rows that stand on successive lines.

    Attributes:
        row: Number of the first one.
        line: Its line.
        offset: Where it starts in the file, or None.
    """

    row: int
    line: int
    offset: int | None


@dataclass(slots=True)
class LocationIndex:
    """Line and byte of every row seen, found again when a few of them are asked for."""

    rows: int = 0
    _runs: list[_Run] = field(default_factory=list[_Run])

    def add(self, rows: ValidRows) -> None:
        """Take in the locations of some rows."""
        first = rows.contiguous()
        if first is not None:
            self._runs.append(_Run(self.rows, *first))
        else:
            expected = None
            for number, line in enumerate(rows.lines(), self.rows):
                if line != expected:
                    self._runs.append(_Run(number, line, rows.offset(number - self.rows)))
                expected = line + 1
        self.rows += len(rows)

    def merge(self, following: LocationIndex, lines: int) -> None:
        """Take in the locations of the rows that follow."""
        self._runs += [
            _Run(run.row + self.rows, run.line + lines, run.offset) for run in following._runs
        ]
        self.rows += following.rows

    def locate(self, row: int, path: Path | None, message: str) -> Location:
        """Return the location of a row; the file is read for it where there is one."""
        run = self._runs[bisect_right(self._runs, row, key=lambda run: run.row) - 1]
        line = run.line + row - run.row
        if path is None or run.offset is None:
            return Location(line, message=message)
        with path.open("rb") as stream:
            stream.seek(run.offset)
            for _ in range(row - run.row):
                stream.readline()
            offset = stream.tell()
            start = stream.read(_EXCERPT_BYTES).split(b"\n", 1)[0]
        text = start.decode("utf-8", "replace").rstrip("\r")
        return Location(line, offset, message=message, excerpt=excerpt_of(text))
