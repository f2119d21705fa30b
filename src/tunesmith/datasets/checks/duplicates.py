"""Rows that repeat an earlier one, and inputs that have several different outputs.

Each row leaves two 64-bit hashes of what `identity` says; equal hashes count as equal rows. (At
ten million rows the chance of a single false match is three in a million.)
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.catalogue import finding_of
from tunesmith.datasets.checks.identity import identities
from tunesmith.datasets.checks.places import PlaceIndex
from tunesmith.datasets.errors import DatasetError
from tunesmith.datasets.findings import Tally
from tunesmith.datasets.optional import optional

if TYPE_CHECKING:
    from tunesmith.datasets.checks.fold import Outcome, SoundRows
    from tunesmith.datasets.checks.settings import Settings
    from tunesmith.datasets.findings import Finding

__all__ = ["Duplicates"]

_SEED_PROBE: Final = "tunesmith"
_ODD: Final = 0x9E3779B97F4A7C15


class Duplicates:
    """Hashes of all rows."""

    def __init__(self, settings: Settings) -> None:
        self.capacity = settings.max_examples
        self.shape = settings.shape
        self.inputs: Any = array("q")
        self.rows: Any = array("q")
        self.places = PlaceIndex()
        self.seed = hash(_SEED_PROBE)

    def observe(self, rows: SoundRows) -> None:
        """See `Fold.observe`."""
        given, said = identities(rows)
        inputs = array("q", map(hash, given))
        self.inputs.extend(inputs)
        self.rows.extend(_combined(inputs, array("q", map(hash, said))))
        self.places.add(rows)

    def merge(self, following: Duplicates, lines: int) -> None:
        """See `Fold.merge`.

        Raises:
            DatasetError: The other process hashes differently.
        """
        if following.seed != self.seed:
            raise DatasetError("Processes that check together need the same PYTHONHASHSEED.")
        self.inputs.extend(following.inputs)
        self.rows.extend(following.rows)
        self.places.merge(following.places, lines)

    def conclude(self, outcome: Outcome) -> list[Finding]:
        """See `Fold.conclude`."""
        findings = []
        repeats = _repeats(self.rows)
        if repeats:
            tally = Tally(self.capacity)
            for row, first in repeats:
                if not tally.wants_examples:
                    tally.count += 1
                    continue
                earlier = self.places.locate(first, outcome.path, "").line
                message = f"the same row as line {earlier}"
                tally.add(self.places.locate(row, outcome.path, message))
            findings.append(finding_of("duplicate-rows", tally))
        if self.shape != "reinforcement":
            findings += self._conflicts(outcome)
        return findings

    def _conflicts(self, outcome: Outcome) -> list[Finding]:
        # Text generation without prompts has one empty input for everything: no conflict there.
        empty = hash("")
        conflicts = [rows for value, rows in _conflicts(self.inputs, self.rows) if value != empty]
        if not conflicts:
            return []
        tally = Tally(self.capacity)
        for first, other in conflicts:
            if not tally.wants_examples:
                tally.count += 1
                continue
            earlier = self.places.locate(first, outcome.path, "").line
            message = f"another completion for the prompt of line {earlier}"
            tally.add(self.places.locate(other, outcome.path, message))
        return [finding_of("conflicting-completions", tally)]


def _combined(inputs: Any, outputs: Any) -> Any:
    """Return a hash of each pair of hashes."""
    numpy = optional("numpy")
    if numpy is None:
        return array("q", map(hash, zip(inputs, outputs, strict=True)))
    left = numpy.frombuffer(inputs, dtype=numpy.uint64)
    right = numpy.frombuffer(outputs, dtype=numpy.uint64)
    mixed = (left * _ODD) ^ (right + (left >> numpy.uint64(29)))
    return array("q", mixed.astype(numpy.uint64).tobytes())


def _repeats(hashes: Any) -> list[tuple[int, int]]:
    """Return (row, first row with the same hash) for each row that repeats one, in order."""
    wanted = _repeated_values(hashes)
    if not wanted:
        return []
    first: dict[int, int] = {}
    found = []
    for row, value in enumerate(hashes):
        if value in wanted:
            earlier = first.setdefault(value, row)
            if earlier != row:
                found.append((row, earlier))
    return found


def _conflicts(inputs: Any, rows: Any) -> list[tuple[int, tuple[int, int]]]:
    """Return (input's hash, (first row, first row with another output)), in order of the latter."""
    wanted = _repeated_values(inputs)
    first: dict[int, int] = {}
    found: dict[int, tuple[int, int]] = {}
    if not wanted:
        return []
    for row, value in enumerate(inputs):
        if value in wanted:
            earlier = first.setdefault(value, row)
            if value not in found and rows[row] != rows[earlier]:
                found[value] = (earlier, row)
    return list(found.items())


def _repeated_values(hashes: Any) -> set[int]:
    """Return the hashes that occur more than once."""
    numpy = optional("numpy")
    if numpy is None:
        return {value for value, count in Counter(hashes).items() if count > 1}
    ordered = numpy.sort(numpy.frombuffer(hashes, dtype=numpy.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
