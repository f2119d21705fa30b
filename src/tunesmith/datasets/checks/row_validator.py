"""The check that comes first: faults of reading, and the rules of each row's shape.

It hands on the rows that keep the rules, so that no later check meets a missing field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.checks.base import ValidRows
from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.row_formats import chat, problems
from tunesmith.datasets.rules import RULES, make_finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.datasets.checks.settings import Settings
    from tunesmith.datasets.findings import Finding, Location, Severity
    from tunesmith.datasets.readers.batch import Batch
    from tunesmith.datasets.rows import RowFormat

__all__ = ["RowValidator"]


class RowValidator:
    """Counters of reading faults and of broken row rules, by id."""

    def __init__(self, settings: Settings) -> None:
        self.shape: RowFormat = settings.shape
        self.capacity: int = settings.max_examples
        self.counters: dict[str, LocationCounter] = {}
        self.rows: int = 0
        self.lines: int = 0
        self.bytes: int = 0

    def observe(self, batch: Batch) -> ValidRows:
        """Take in a batch and return the rows that keep the rules."""
        self.lines += batch.lines
        self.bytes += batch.size
        for fault in batch.faults:
            self._add(fault.id, fault.location)
        rows = ValidRows(batch, None, None, self.shape)
        if not _all_sound(rows, batch):
            rows = self._sift(batch)
        self.rows += len(rows)
        return rows

    def _sift(self, batch: Batch) -> ValidRows:
        sound: list[dict[str, Any]] = []
        indices: list[int] = []
        for index, value in enumerate(batch.values):
            usable = True
            for problem in problems(value, self.shape):
                self._add(problem.id, batch.location(index, problem.path, problem.message))
                usable = usable and RULES[problem.id].severity != "error"
            if usable and value:
                sound.append(value)
                indices.append(index)
        return ValidRows(batch, sound, indices, self.shape)

    def _add(self, identifier: str, location: Location) -> None:
        counter = self.counters.get(identifier)
        if counter is None:
            counter = self.counters[identifier] = LocationCounter(self.capacity)
        counter.add(location)

    def merge(self, following: RowValidator, lines: int) -> None:
        """See `Check.merge`."""
        for identifier, counter in following.counters.items():
            self.counters.setdefault(identifier, LocationCounter(self.capacity)).merge(
                counter, lines
            )
        self.rows += following.rows
        self.lines += following.lines
        self.bytes += following.bytes

    def conclude(self, severities: Mapping[str, Severity]) -> list[Finding]:
        """Return a finding for each rule that was broken."""
        return [
            make_finding(identifier, counter, severity=severities.get(identifier))
            for identifier, counter in self.counters.items()
        ]


def _all_sound(rows: ValidRows, batch: Batch) -> bool:
    """Tell quickly whether no row has any problem; False leaves it to the rules."""
    if rows.shape == "chat":
        if batch.conversations is not None:
            return chat.are_valid(batch.conversations)
        return all(map(chat.is_plain, rows.values))
    if rows.shape != "prompt_completion" or batch.pairs is None:
        return False
    return not any(map(_is_blank, rows.completion_counts))


def _is_blank(text: str) -> bool:
    return not text or text.isspace()
