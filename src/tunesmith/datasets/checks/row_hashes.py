"""Two 64-bit hashes for each row, and the search for equal ones among them.

The hashes are in memory while they are few and in temporary files beyond that, so the memory of a
check does not grow with the data. The search looks at them in passes, each over those that end in
the same bits, for the same reason. numpy makes it fast where it is installed.
"""

from __future__ import annotations

import weakref
from array import array
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from tunesmith.datasets.optional import optional

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RowHashes", "RowMatches", "any_input_repeats", "find_conflicts", "find_repeats"]

_IN_MEMORY: Final = 1 << 18
_READ_AT_ONCE: Final = 1 << 17
_BYTES: Final = 8
_ROWS_PER_PASS: Final = 1 << 18
_HASHES_PER_PASS: Final = 1 << 20
_EXAMPLES_TO_SORT: Final = 10_000


class RowHashes:
    """Hashes of inputs and of whole rows, in the order of the rows.

    Attributes:
        count: How many rows there are.
        shared_folder: Where to put the hashes when this is pickled, if the process that unpickles
            it sees the same folder; None to pickle the hashes themselves.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.shared_folder: str | None = None
        self._inputs = array("q")
        self._rows = array("q")
        self._files: tuple[IO[bytes], IO[bytes]] | None = None

    def extend(self, inputs: bytes, rows: bytes) -> None:
        """Append the hashes of some rows, eight bytes each."""
        self.count += len(rows) // _BYTES
        self._inputs.frombytes(inputs)
        self._rows.frombytes(rows)
        if len(self._rows) > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._files is None:
            import tempfile  # noqa: PLC0415 - only large data sets need it

            self._files = (tempfile.TemporaryFile(), tempfile.TemporaryFile())  # noqa: SIM115
            for file in self._files:
                weakref.finalize(self, file.close)
        self._inputs.tofile(self._files[0])
        self._rows.tofile(self._files[1])
        self._inputs, self._rows = array("q"), array("q")

    def join(self, following: RowHashes) -> None:
        """Append the hashes of the rows that follow."""
        for inputs, rows in following.parts():
            self.extend(inputs.tobytes(), rows.tobytes())

    def parts(self) -> Iterator[tuple[array[int], array[int]]]:
        """Yield all hashes, some rows at a time."""
        if self._files is not None:
            for file in self._files:
                file.seek(0)
            while inputs := self._files[0].read(_READ_AT_ONCE * _BYTES):
                yield array("q", inputs), array("q", self._files[1].read(_READ_AT_ONCE * _BYTES))
            for file in self._files:
                file.seek(0, 2)
        if self._rows:
            yield self._inputs, self._rows

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the hashes, or the names of two files: an open file belongs to its process."""
        if self.shared_folder is None:
            return {"parts": list(self.parts())}
        import tempfile  # noqa: PLC0415 - only workers share hashes

        pair = [
            tempfile.NamedTemporaryFile(dir=self.shared_folder, delete=False)  # noqa: SIM115
            for _ in range(2)
        ]
        for hashes in self.parts():
            for file, part in zip(pair, hashes, strict=True):
                part.tofile(file)
        for file in pair:
            file.close()
        return {"files": [file.name for file in pair], "count": self.count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the hashes that were pickled, or open the files that hold them."""
        RowHashes.__init__(self)
        if "files" in state:
            self.count = state["count"]
            inputs, rows = (open(name, "r+b") for name in state["files"])  # noqa: PTH123, SIM115
            self._files = (inputs, rows)
            for file in self._files:
                weakref.finalize(self, file.close)
            return
        for inputs, rows in state["parts"]:
            self.extend(inputs.tobytes(), rows.tobytes())


@dataclass(slots=True)
class RowMatches:
    """Rows that match an earlier row.

    Attributes:
        count: How many there are.
        examples: The first of them as (row, earlier row), numbered from 0.
    """

    count: int = 0
    examples: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def keep_first(self, wanted: int) -> None:
        """Sort the examples and keep the first `wanted`; 0 keeps all."""
        self.examples.sort()
        if wanted:
            del self.examples[wanted:]


def any_input_repeats(store: RowHashes) -> bool:
    """Return whether two rows have the same input; where none have, no row matches another."""
    numpy = optional("numpy")
    if numpy is None:
        return _any_input_repeats_in_python(store)
    for mask, number in _shares(store, _HASHES_PER_PASS):
        chosen: list[Any] = []
        for inputs, _ in store.parts():
            hashes = numpy.frombuffer(inputs, dtype=numpy.int64)
            chosen.append(hashes[(hashes & mask) == number])
        if chosen:
            hashes = numpy.concatenate(chosen)
            hashes.sort()
            if (hashes[1:] == hashes[:-1]).any():
                return True
    return False


def find_repeats(store: RowHashes, wanted: int) -> RowMatches:
    """Return the rows that repeat an earlier one."""
    found = RowMatches()
    numpy = optional("numpy")
    if numpy is None:
        return _repeats_in_python(store, wanted)
    for hashes, _, positions in _passes(numpy, store, by_input=False):
        grouped = _grouped(numpy, hashes, positions)
        if grouped is None:
            continue
        _, rows, first = grouped
        repeats = rows != first
        found.count += int(numpy.count_nonzero(repeats))
        _add_examples(numpy, found, rows[repeats], first[repeats], wanted)
    found.keep_first(wanted)
    return found


def find_conflicts(store: RowHashes, wanted: int, ignored_input: int) -> RowMatches:
    """Return, for each input with several outputs, the first row whose output differs.

    Args:
        store: The hashes.
        wanted: How many examples.
        ignored_input: Hash of an input that may have many outputs: no prompt at all.
    """
    found = RowMatches()
    numpy = optional("numpy")
    if numpy is None:
        return _conflicts_in_python(store, wanted, ignored_input)
    for inputs, rows, positions in _passes(numpy, store, by_input=True):
        grouped = _grouped(numpy, inputs, positions)
        if grouped is None:
            continue
        order, numbers, first = grouped
        # `positions` ascends within a pass, so the first row of a group is found by its number.
        first_outputs = rows[numpy.searchsorted(positions, first)]
        differs = (rows[order] != first_outputs) & (inputs[order] != ignored_input)
        groups, index = numpy.unique(first[differs], return_index=True)
        found.count += len(groups)
        _add_examples(numpy, found, numbers[differs][index], groups, wanted)
    found.keep_first(wanted)
    return found


def _add_examples(numpy: Any, found: RowMatches, rows: Any, first: Any, wanted: int) -> None:
    if wanted:
        chosen = numpy.argsort(rows, kind="stable")[:wanted]
        rows, first = rows[chosen], first[chosen]
    found.examples += zip(rows.tolist(), first.tolist(), strict=True)


def _passes(numpy: Any, store: RowHashes, *, by_input: bool) -> Any:
    """Yield (hashes to compare, the other hashes, row numbers), a share of the rows at a time."""
    for mask, number in _shares(store):
        chosen: list[Any] = []
        others: list[Any] = []
        positions: list[Any] = []
        start = 0
        for inputs, rows in store.parts():
            left, right = (inputs, rows) if by_input else (rows, inputs)
            hashes = numpy.frombuffer(left, dtype=numpy.int64)
            index = numpy.flatnonzero((hashes & mask) == number)
            chosen.append(hashes[index])
            if by_input:
                others.append(numpy.frombuffer(right, dtype=numpy.int64)[index])
            positions.append(index + start)
            start += len(hashes)
        if chosen:
            other = numpy.concatenate(others) if by_input else None
            yield numpy.concatenate(chosen), other, numpy.concatenate(positions)


def _grouped(numpy: Any, hashes: Any, positions: Any) -> tuple[Any, Any, Any] | None:
    """Return the rows whose hash occurs again: their index, their number, and that of the first."""
    ordered = numpy.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return None
    order = numpy.flatnonzero(numpy.isin(hashes, repeated))
    order = order[numpy.argsort(hashes[order], kind="stable")]
    values, rows = hashes[order], positions[order]
    starts = numpy.concatenate(([True], values[1:] != values[:-1]))
    first = rows[starts][numpy.cumsum(starts) - 1]
    return order, rows, first


def _repeats_in_python(store: RowHashes, wanted: int) -> RowMatches:
    found = RowMatches()
    for mask, number in _shares(store):
        first: dict[int, int] = {}
        row = -1
        for _, hashes in store.parts():
            for row, value in enumerate(hashes, row + 1):  # noqa: B020 - it goes on counting
                if value & mask != number:
                    continue
                earlier = first.setdefault(value, row)
                if earlier != row:
                    found.count += 1
                    _add_example(found, row, earlier, wanted)
    found.keep_first(wanted)
    return found


def _conflicts_in_python(store: RowHashes, wanted: int, ignored_input: int) -> RowMatches:
    found = RowMatches()
    for mask, number in _shares(store):
        first: dict[int, tuple[int, int]] = {}
        conflicting = {ignored_input}
        row = -1
        for inputs, wholes in store.parts():
            pairs = zip(inputs, wholes, strict=True)
            for row, (left, whole) in enumerate(pairs, row + 1):  # noqa: B020
                if left & mask != number or left in conflicting:
                    continue
                earlier, other = first.setdefault(left, (row, whole))
                if other != whole:
                    conflicting.add(left)
                    found.count += 1
                    _add_example(found, row, earlier, wanted)
    found.keep_first(wanted)
    return found


def _any_input_repeats_in_python(store: RowHashes) -> bool:
    for mask, number in _shares(store):
        seen: set[int] = set()
        for inputs, _ in store.parts():
            chosen = [value for value in inputs if value & mask == number]
            size = len(seen) + len(chosen)
            seen.update(chosen)
            if len(seen) < size:
                return True
    return False


def _shares(store: RowHashes, rows_per_pass: int = _ROWS_PER_PASS) -> list[tuple[int, int]]:
    """Return (mask, value) for each pass: the hashes whose masked bits have that value."""
    passes = 1
    while passes * rows_per_pass < store.count:
        passes *= 2
    return [(passes - 1, number) for number in range(passes)]


def _add_example(found: RowMatches, row: int, earlier: int, wanted: int) -> None:
    found.examples.append((row, earlier))
    if wanted and len(found.examples) > _EXAMPLES_TO_SORT + wanted:
        found.keep_first(wanted)
