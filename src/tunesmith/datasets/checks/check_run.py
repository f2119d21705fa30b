"""All checks of a data set, run together over its batches: observe, merge, conclude.

Ranges of one file can be observed by different processes and merged in their order; the findings
are those of one process that observed it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import CheckedData
from .classes import Classes
from .duplicate_rows import DuplicateRows
from .images import Images
from .prompt_format_check import PromptFormatCheck
from .row_validator import RowValidator
from .text_checks import SampledText, SharedPrefixes
from .token_limits import TokenLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tunesmith.datasets.findings import Finding, Severity
    from tunesmith.datasets.near_duplicates import NearDuplicates
    from tunesmith.datasets.readers.batch import Batch

    from .base import Check
    from .settings import CheckSettings

__all__ = ["CheckRun"]


class CheckRun:
    """The partial results of all checks, for some part of a data set.

    Attributes:
        settings: What the checks go by.
        validator: Counts of valid rows and of lines, and the broken rules.
        tokens: The check that counts tokens.
    """

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.validator: RowValidator = RowValidator(settings)
        self.tokens: TokenLimits = TokenLimits(settings)
        self._near: NearDuplicates | None = None
        if settings.near_duplicates:
            from tunesmith.datasets.near_duplicates import NearDuplicates  # noqa: PLC0415

            self._near = NearDuplicates(settings.max_examples)
        self._sampled: SampledText | None = None
        self._duplicates = DuplicateRows(settings)
        self._checks: list[Check] = [self._duplicates, self.tokens]
        if settings.images_per_row is not None and settings.row_format != "prompt_completion":
            self._checks.append(Images(settings))
        if settings.row_format == "prompt_completion":
            self._sampled = SampledText(settings)
            self._checks += [PromptFormatCheck(settings), SharedPrefixes(), self._sampled]
            if settings.task == "classification":
                self._checks.append(Classes(settings))

    def observe(self, batches: Iterable[Batch]) -> CheckRun:
        """Add batches; returns itself."""
        for batch in batches:
            if self._near is not None:
                self._near.observe(batch)
            rows = self.validator.observe(batch)
            if len(rows):
                for check in self._checks:
                    check.observe(rows)
        return self

    def share_in(self, folder: str) -> CheckRun:
        """Hand what is large over in files of a folder when this is pickled; returns itself."""
        self._duplicates.hashes.shared_folder = folder
        return self

    def merge(self, following: CheckRun) -> CheckRun:
        """Add the partial results for what follows; returns itself."""
        lines = self.validator.lines
        for check, other in zip(self._checks, following._checks, strict=True):
            check.merge(other, lines)
        if self._near is not None and following._near is not None:
            self._near.merge(following._near, lines)
        self.validator.merge(following.validator, lines)
        return self

    def conclude(
        self, severities: Mapping[str, Severity] | None = None, path: Path | None = None
    ) -> list[Finding]:
        """Return the findings of all checks.

        Args:
            severities: Severities that differ from the rules' own.
            path: The file, if there is one and its rows are lines.
        """
        data = CheckedData(self.settings, self.validator.rows, self.validator.lines, path)
        findings = self.validator.conclude(severities or {})
        for check in self._checks:
            # Without a space before completions token boundaries move for that reason alone.
            if check is self._sampled and any(f.id == "leading-whitespace" for f in findings):
                continue
            findings += check.conclude(data)
        if self._near is not None:
            findings += self._near.conclude()
        return findings
