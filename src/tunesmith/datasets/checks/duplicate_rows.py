"""Rows that repeat an earlier one, and inputs that have several different outputs.

Each row leaves two 64-bit hashes: of what the model is given, and of the whole row. Equal hashes
count as equal rows. (At ten million rows the chance of a single false match is three in a million.)
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.findings import Location, LocationCounter, excerpt_of
from tunesmith.datasets.optional import optional
from tunesmith.datasets.rules import make_finding

from .row_hashes import RowHashes, any_input_repeats, find_conflicts, find_repeats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tunesmith.datasets.findings import Finding
    from tunesmith.datasets.rows import RowFormat

    from .base import CheckedData, ValidRows
    from .row_hashes import RowMatches
    from .settings import CheckSettings

__all__ = ["DuplicateRows"]

_EXCERPT_BYTES: Final = 400
_SEED_PROBE: Final = "tunesmith"
_MULTIPLIER: Final = 0x9E3779B97F4A7C15


class DuplicateRows:
    """Hashes and locations of all rows."""

    def __init__(self, settings: CheckSettings) -> None:
        self.max_examples: int = settings.max_examples
        self.row_format = settings.row_format
        self.hashes: RowHashes = RowHashes()
        self.locations: _LocationIndex = _LocationIndex()
        self.seed: int = hash(_SEED_PROBE)
        self.no_input: int = hash("")

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        self.hashes.extend(*_hashes(*_inputs_and_outputs(rows)))
        self.locations.add(rows)

    def merge(self, following: DuplicateRows, lines: int) -> None:
        """See `Check.merge`.

        Raises:
            DatasetError: The other process hashes differently.
        """
        if following.seed != self.seed and following.hashes.count:
            if self.hashes.count:
                raise DatasetError("Processes that check together need the same PYTHONHASHSEED.")
            self.seed, self.no_input = following.seed, following.no_input
        self.hashes.join(following.hashes)
        self.locations.merge(following.locations, lines)

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        findings: list[Finding] = []
        if not any_input_repeats(self.hashes):
            return findings
        repeats = find_repeats(self.hashes, self.max_examples)
        if repeats.count:
            counter = self._located(repeats, "the same row as line {line}", data)
            findings.append(make_finding("duplicate-rows", counter))
        if self.row_format == "reinforcement" or self._no_prompts(data):
            return findings
        conflicts = find_conflicts(self.hashes, self.max_examples, self.no_input)
        if conflicts.count:
            message = "another completion for the prompt of line {line}"
            counter = self._located(conflicts, message, data)
            # Two labels for one text contradict each other; two answers to a question may not.
            labels = data.settings.task == "classification"
            findings.append(
                make_finding(
                    "conflicting-completions",
                    counter,
                    severity="warning" if labels else "info",
                    fix="Decide on one label for each prompt." if labels else None,
                )
            )
        return findings

    def _no_prompts(self, data: CheckedData) -> bool:
        # Text generation without prompts has one empty input for everything: no conflict there.
        return data.settings.task == "open-ended generation"

    def _located(self, found: RowMatches, message: str, data: CheckedData) -> LocationCounter:
        counter = LocationCounter(self.max_examples, found.count)
        for row, first in found.examples:
            earlier = self.locations.locate(first, data.path, "").line
            text = message.format(line=earlier)
            counter.examples.append(self.locations.locate(row, data.path, text))
        return counter


def _hashes(inputs: list[Any], outputs: list[Any]) -> tuple[bytes, bytes]:
    """Return 64-bit hashes of the inputs, and of the whole rows."""
    numpy: Any = optional("numpy")
    if numpy is None:
        pairs = list(zip(map(hash, inputs), map(hash, outputs), strict=True))
        whole = array("q", map(hash, pairs))
        return array("q", (left for left, _ in pairs)).tobytes(), whole.tobytes()
    left = numpy.fromiter(map(hash, inputs), numpy.int64, len(inputs)).view(numpy.uint64)
    right = numpy.fromiter(map(hash, outputs), numpy.int64, len(outputs)).view(numpy.uint64)
    mixed = (left * numpy.uint64(_MULTIPLIER)) ^ (right + (left >> numpy.uint64(29)))
    return left.tobytes(), mixed.tobytes()


def _inputs_and_outputs(rows: ValidRows) -> tuple[list[Any], list[Any]]:
    """Return for each row a hashable value for its input and one for its output."""
    if rows.row_format == "prompt_completion":
        return rows.prompts, rows.completions
    if rows.row_format == "chat" and rows.conversations is not None:
        encode = _encoder()
        inputs = [encode(row.messages[:-1]) for row in rows.conversations]
        return inputs, [encode(row.messages[-1]) for row in rows.conversations]
    pairs = [_input_and_output(value, rows.row_format) for value in rows.values]
    return [left for left, _ in pairs], [right for _, right in pairs]


def _input_and_output(value: dict[str, Any], row_format: RowFormat) -> tuple[Any, Any]:
    """Return a hashable value for the input of a row and one for its output."""
    if row_format == "prompt_completion":
        return value["prompt"], value["completion"]
    encode = _encoder()
    if row_format == "preference":
        outputs = [value["preferred_output"], value["non_preferred_output"]]
        return encode(value["input"]), encode(outputs)
    if row_format == "reinforcement":
        return encode(value), b""
    messages = value["messages"]
    if len(value) == 1:
        return encode(messages[:-1]), encode(messages[-1])
    rest = {key: item for key, item in value.items() if key != "messages"}
    return encode([rest, messages[:-1]]), encode(messages[-1])


@cache
def _encoder() -> Callable[[Any], Any]:
    msgspec = optional("msgspec")
    if msgspec is None:
        return json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
    encode: Callable[[Any], Any] = msgspec.json.Encoder(order="sorted").encode
    return encode


class _Run(NamedTuple):
    """Rows on successive lines.

    Attributes:
        row: Number of the first one.
        line: Its line.
        offset: Where it starts in the file, or None.
    """

    row: int
    line: int
    offset: int | None


@dataclass(slots=True)
class _LocationIndex:
    """Lines and offsets of all rows: a few words of memory for each run of successive lines."""

    rows: int = 0
    _runs: list[_Run] = field(default_factory=list[_Run])

    def add(self, rows: ValidRows) -> None:
        """Add the locations of some rows."""
        first = rows.contiguous()
        if first is not None:
            self._runs.append(_Run(self.rows, *first))
        else:
            expected = None
            for index in range(len(rows)):
                line = rows.line(index)
                if line != expected:
                    self._runs.append(_Run(self.rows + index, line, rows.offset(index)))
                expected = line + 1
        self.rows += len(rows)

    def merge(self, following: _LocationIndex, lines: int) -> None:
        """Add the locations of the rows that follow."""
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
