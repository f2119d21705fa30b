"""The check that comes first: faults of reading, and the rules of each row's format.

It returns the rows that follow the rules, so that no later check meets a missing field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.row_formats import chat, problems
from tunesmith.datasets.row_formats.dialects import dialect_problems
from tunesmith.datasets.rules import RULES, make_finding

from .base import ValidRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.datasets.findings import Finding, Severity
    from tunesmith.datasets.readers.batch import Batch
    from tunesmith.datasets.row_formats.dialects import Dialect
    from tunesmith.datasets.row_formats.problem import Problem
    from tunesmith.datasets.rows import RowFormat

    from .settings import CheckSettings

__all__ = ["RowValidator"]


class RowValidator:
    """Faults of reading and broken row rules, counted by id; valid rows and lines."""

    def __init__(self, settings: CheckSettings) -> None:
        self.row_format: RowFormat = settings.row_format
        self.severities: Mapping[str, Severity] = settings.severities
        self.dialect: Dialect = settings.dialect
        self.max_examples: int = settings.max_examples
        self.counters: dict[str, LocationCounter] = {}
        self.rows: int = 0
        self.lines: int = 0

    def observe(self, batch: Batch) -> ValidRows:
        """Add a batch and return the rows that follow the rules."""
        self.lines += batch.lines
        for fault in batch.faults:
            self._counter(fault.id).add(fault.location, fault.count)
        rows = ValidRows(batch, self.row_format, None)
        # Plain rows fulfil all rules but those of mistral-finetune on the order of roles.
        if self.dialect == "mistral-finetune" or not _all_valid(rows, batch):
            rows = ValidRows(batch, self.row_format, self._valid_indices(batch))
        self.rows += len(rows)
        return rows

    def _valid_indices(self, batch: Batch) -> list[int]:
        indices: list[int] = []
        for index, value in enumerate(batch.values):
            valid = bool(value)
            for problem in problems(value, self.row_format):
                self._add(problem, batch, index)
                severity = self.severities.get(problem.id, RULES[problem.id].severity)
                valid = valid and severity != "error"
            for problem in dialect_problems(value, self.row_format, self.dialect):
                self._add(problem, batch, index)
            if valid:
                indices.append(index)
        return indices

    def _add(self, problem: Problem, batch: Batch, index: int) -> None:
        counter = self._counter(problem.id)
        counter.count += 1
        # A row of thousands of unknown fields has thousands of problems, few of them shown.
        if counter.wants_examples:
            counter.examples.append(batch.location(index, problem.path, problem.message))

    def _counter(self, rule: str) -> LocationCounter:
        counter = self.counters.get(rule)
        if counter is None:
            counter = self.counters[rule] = LocationCounter(self.max_examples)
        return counter

    def merge(self, following: RowValidator, lines: int) -> None:
        """See `Check.merge`."""
        for rule, counter in following.counters.items():
            own = self.counters.setdefault(rule, LocationCounter(self.max_examples))
            own.merge(counter, lines)
        self.rows += following.rows
        self.lines += following.lines

    def conclude(self, severities: Mapping[str, Severity]) -> list[Finding]:
        """Return a finding for each rule that was broken.

        Args:
            severities: Severities of the destination that differ from the rules' own.
        """
        return [
            make_finding(rule, counter, severity=severities.get(rule))
            for rule, counter in self.counters.items()
        ]


def _all_valid(rows: ValidRows, batch: Batch) -> bool:
    """Return True where a fast test proves that no row has any problem."""
    if rows.row_format == "chat":
        if batch.conversations is not None:
            return chat.are_valid(batch.conversations)
        return all(map(chat.is_plain, rows.values))
    if rows.row_format != "prompt_completion" or batch.pairs is None:
        return False
    return not any(map(_is_blank, rows.completion_counts))


def _is_blank(text: str) -> bool:
    return not text or text.isspace()
