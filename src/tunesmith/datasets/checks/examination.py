"""All checks of one data set, run together: observe, merge, conclude."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.checks.base import Outcome
from tunesmith.datasets.checks.classes import Classes
from tunesmith.datasets.checks.duplicates import Duplicates
from tunesmith.datasets.checks.prompt_format_check import PromptFormatCheck
from tunesmith.datasets.checks.row_validator import RowValidator
from tunesmith.datasets.checks.shared_text import SharedText
from tunesmith.datasets.checks.token_limits import TokenLimits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tunesmith.datasets.checks.settings import Settings
    from tunesmith.datasets.destinations import Destination
    from tunesmith.datasets.findings import Finding
    from tunesmith.datasets.readers.batch import Batch

__all__ = ["Examination"]


@dataclass(slots=True)
class Examination:
    """The partial results of all checks, for some part of a data set."""

    settings: Settings
    rules: RowValidator
    checks: list[Any] = field(default_factory=list[Any])

    @classmethod
    def start(cls, settings: Settings) -> Examination:
        """Return the examination of no rows."""
        checks: list[Any] = [Duplicates(settings), TokenLimits(settings)]
        if settings.shape == "prompt_completion":
            checks += [PromptFormatCheck(settings), SharedText(settings)]
            if settings.task == "classification":
                checks.append(Classes(settings))
        return cls(settings, RowValidator(settings), checks)

    def observe(self, batches: Iterable[Batch]) -> Examination:
        """Take in batches; returns itself."""
        for batch in batches:
            rows = self.rules.observe(batch)
            if len(rows):
                for check in self.checks:
                    check.observe(rows)
        return self

    def merge(self, following: Examination) -> Examination:
        """Take in the examination of what follows; returns itself."""
        lines = self.rules.lines
        for check, other in zip(self.checks, following.checks, strict=True):
            check.merge(other, lines)
        self.rules.merge(following.rules, lines)
        return self

    def conclude(self, profile: Destination, path: Path | None) -> list[Finding]:
        """Return the findings of all checks."""
        outcome = Outcome(self.settings, self.rules.rows, self.rules.lines, path)
        findings = self.rules.conclude(profile.severities)
        for check in self.checks:
            findings += check.conclude(outcome)
        return findings

    @property
    def token_counts(self) -> TokenLimits:
        """The check that counts tokens."""
        return next(check for check in self.checks if isinstance(check, TokenLimits))
