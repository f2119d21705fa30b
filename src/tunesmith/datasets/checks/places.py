"""Where rows stand, by their number: a few words for each batch instead of some for each row."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.findings import Location, excerpt_of

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.datasets.checks.fold import SoundRows

__all__ = ["PlaceIndex"]


@dataclass(slots=True)
class _Segment:
    """Successive rows. With `lines` None they are successive lines from `line`, `offset` on."""

    row: int
    line: int
    offset: int
    lines: list[int] | None
    offsets: list[int] | None


@dataclass(slots=True)
class PlaceIndex:
    """Line and byte of every row seen, found again when a few of them are asked for."""

    rows: int = 0
    _segments: list[_Segment] = field(default_factory=list)

    def add(self, rows: SoundRows) -> None:
        """Take in the places of some rows."""
        if not len(rows):
            return
        first = rows.contiguous()
        if first is not None:
            self._segments.append(_Segment(self.rows, first[0], first[1], None, None))
        else:
            lines, offsets = rows.places()
            self._segments.append(_Segment(self.rows, 0, 0, lines, offsets))
        self.rows += len(rows)

    def merge(self, following: PlaceIndex, lines: int) -> None:
        """Take in the places of the rows that follow."""
        for segment in following._segments:
            moved = None if segment.lines is None else [line + lines for line in segment.lines]
            self._segments.append(
                _Segment(
                    segment.row + self.rows,
                    segment.line + lines,
                    segment.offset,
                    moved,
                    segment.offsets,
                )
            )
        self.rows += following.rows

    def locate(self, row: int, path: Path | None, message: str) -> Location:
        """Return the place of a row; the file is read for it where need be."""
        position = bisect_right(self._segments, row, key=_row_of) - 1
        segment = self._segments[position]
        index = row - segment.row
        if segment.lines is not None:
            offset = segment.offsets[index] if segment.offsets else None
            return Location(segment.lines[index], offset, message=message)
        if path is None:
            return Location(segment.line + index, message=message)
        with path.open("rb") as stream:
            stream.seek(segment.offset)
            for _ in range(index):
                stream.readline()
            offset = stream.tell()
            text = stream.read(400).split(b"\n", 1)[0].decode("utf-8", "replace")
        return Location(
            segment.line + index, offset, message=message, excerpt=excerpt_of(text.rstrip("\r"))
        )


def _row_of(segment: Any) -> int:
    return int(segment.row)
