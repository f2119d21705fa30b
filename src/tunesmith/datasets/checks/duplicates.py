"""Rows that repeat an earlier one, and inputs that have several different outputs.

Each row leaves two 64-bit hashes of what `identity` says; equal hashes count as equal rows. (At
ten million rows the chance of a single false match is three in a million.)
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.checks.duplicate_rows import any_input_repeats, find_conflicts, find_repeats
from tunesmith.datasets.checks.hash_store import HashStore
from tunesmith.datasets.checks.identity import identities
from tunesmith.datasets.checks.location_index import LocationIndex
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.optional import optional
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from tunesmith.datasets.checks.base import Outcome, ValidRows
    from tunesmith.datasets.checks.duplicate_rows import RowMatches
    from tunesmith.datasets.checks.settings import Settings
    from tunesmith.datasets.findings import Finding

__all__ = ["Duplicates"]

_SEED_PROBE: Final = "tunesmith"
_ODD: Final = 0x9E3779B97F4A7C15


class Duplicates:
    """Hashes of all rows."""

    def __init__(self, settings: Settings) -> None:
        self.capacity: int = settings.max_examples
        self.shape = settings.shape
        self.hashes: HashStore = HashStore()
        self.locations: LocationIndex = LocationIndex()
        self.seed: int = hash(_SEED_PROBE)
        self.no_input: int = hash("")

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        given, said = identities(rows)
        self.hashes.extend(*_hashes(given, said))
        self.locations.add(rows)

    def merge(self, following: Duplicates, lines: int) -> None:
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

    def conclude(self, outcome: Outcome) -> list[Finding]:
        """See `Check.conclude`."""
        findings: list[Finding] = []
        if not any_input_repeats(self.hashes):
            return findings
        repeats = find_repeats(self.hashes, self.capacity)
        if repeats.count:
            counter = self._located(repeats, "the same row as line {line}", outcome)
            findings.append(make_finding("duplicate-rows", counter))
        if self.shape == "reinforcement" or self._no_prompts(outcome):
            return findings
        conflicts = find_conflicts(self.hashes, self.capacity, self.no_input)
        if conflicts.count:
            words = "another completion for the prompt of line {line}"
            counter = self._located(conflicts, words, outcome)
            # Two labels for one text contradict each other; two answers to a question may not.
            labels = outcome.settings.task == "classification"
            findings.append(
                make_finding(
                    "conflicting-completions",
                    counter,
                    severity="warning" if labels else "info",
                    fix="Decide on one label for each prompt." if labels else None,
                )
            )
        return findings

    def _no_prompts(self, outcome: Outcome) -> bool:
        # Text generation without prompts has one empty input for everything: no conflict there.
        return outcome.settings.task == "open-ended generation"

    def _located(self, found: RowMatches, words: str, outcome: Outcome) -> LocationCounter:
        counter = LocationCounter(self.capacity, found.count)
        for row, first in found.examples:
            earlier = self.locations.locate(first, outcome.path, "").line
            message = words.format(line=earlier)
            counter.examples.append(self.locations.locate(row, outcome.path, message))
        return counter


def _hashes(given: list[Any], said: list[Any]) -> tuple[bytes, bytes]:
    """Return 64-bit hashes of what the rows are given, and of the whole rows."""
    numpy: Any = optional("numpy")
    if numpy is None:
        inputs, outputs = map(hash, given), map(hash, said)
        pairs = list(zip(inputs, outputs, strict=True))
        whole = array("q", map(hash, pairs))
        return array("q", (left for left, _ in pairs)).tobytes(), whole.tobytes()
    left = numpy.fromiter(map(hash, given), numpy.int64, len(given)).view(numpy.uint64)
    right = numpy.fromiter(map(hash, said), numpy.int64, len(said)).view(numpy.uint64)
    mixed = (left * numpy.uint64(_ODD)) ^ (right + (left >> numpy.uint64(29)))
    return left.tobytes(), mixed.tobytes()
