"""Text that all prompts, or all completions, begin with; and prompts that are all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tunesmith.datasets.findings import Finding, LocationCounter, excerpt_of
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Collection

    from tunesmith.datasets.checks.base import Outcome, ValidRows
    from tunesmith.datasets.checks.settings import Settings

__all__ = ["SharedText"]

_SHORTEST_PROMPT_PREFIX: Final = 12
_SHORTEST_COMPLETION_PREFIX: Final = 5
_FEWEST_ROWS: Final = 3


class SharedText:
    """The least and the greatest prompt and completion: what they share, all share."""

    def __init__(self, settings: Settings) -> None:
        del settings
        self.prompts: tuple[str, str] | None = None
        self.completions: tuple[str, str] | None = None

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        if self.prompts is None or _common_prefix(*self.prompts):
            self.prompts = _extremes(rows.prompts, self.prompts)
        if self.completions is None or _common_prefix(*self.completions):
            self.completions = _extremes(rows.completion_counts, self.completions)

    def merge(self, following: SharedText, lines: int) -> None:
        """See `Check.merge`."""
        del lines
        if following.prompts:
            self.prompts = _extremes(list(following.prompts), self.prompts)
        if following.completions:
            self.completions = _extremes(list(following.completions), self.completions)

    def conclude(self, outcome: Outcome) -> list[Finding]:
        """See `Check.conclude`."""
        if outcome.rows < _FEWEST_ROWS or self.prompts is None or self.completions is None:
            return []
        findings: list[Finding] = []
        total = LocationCounter(0, outcome.rows)
        least, greatest = self.prompts
        prefix = _common_prefix(*self.prompts)
        if least == greatest and least:
            findings.append(make_finding("prompts-identical", total, detail=excerpt_of(least)))
        elif len(prefix) >= _SHORTEST_PROMPT_PREFIX:
            findings.append(make_finding("prompt-prefix", total, detail=repr(prefix[:80])))
        least, greatest = self.completions
        prefix = _common_prefix(*self.completions)
        if least != greatest and len(prefix.strip()) >= _SHORTEST_COMPLETION_PREFIX:
            findings.append(make_finding("completion-prefix", total, detail=repr(prefix[:80])))
        return findings


def _extremes(texts: Collection[str], before: tuple[str, str] | None) -> tuple[str, str]:
    least, greatest = min(texts), max(texts)
    if before is None:
        return least, greatest
    return min(least, before[0]), max(greatest, before[1])


def _common_prefix(least: str, greatest: str) -> str:
    """Return what both start with; every text between the two in order starts with it, too."""
    for position, (left, right) in enumerate(zip(least, greatest, strict=False)):
        if left != right:
            return least[:position]
    return least[: len(greatest)]
