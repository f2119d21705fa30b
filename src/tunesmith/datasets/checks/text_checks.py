"""Checks of what prompts and completions say: shared beginnings, token boundaries, upper case.

`SharedPrefixes` checks every row, `SampledText` the first few hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tunesmith.datasets.findings import Finding, Location, LocationCounter, excerpt_of
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.row_formats import problems
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Collection

    from .base import CheckedData, ValidRows
    from .settings import CheckSettings

__all__ = ["SampledText", "SharedPrefixes"]

_SHORTEST_PROMPT_PREFIX: Final = 12
_SHORTEST_COMPLETION_PREFIX: Final = 5
_FEWEST_ROWS: Final = 3

_SAMPLED_ROWS: Final = 500
_BOUNDARY_CHARACTERS: Final = 100
_SAMPLED_END: Final = 4_000
_LONGEST_PREFIX: Final = 10_000
_FEWEST_LETTERS: Final = 200


class SharedPrefixes:
    """The first and last prompt and completion in sorted order: a prefix of both is one of all."""

    def __init__(self) -> None:
        self.prompts: tuple[str, str] | None = None
        self.completions: tuple[str, str] | None = None

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        if self.prompts is None or _common_prefix(*self.prompts):
            self.prompts = _extremes(rows.prompts, self.prompts)
        if self.completions is None or _common_prefix(*self.completions):
            self.completions = _extremes(rows.completion_counts, self.completions)

    def merge(self, following: SharedPrefixes, lines: int) -> None:
        """See `Check.merge`."""
        del lines
        if following.prompts:
            self.prompts = _extremes(list(following.prompts), self.prompts)
        if following.completions:
            self.completions = _extremes(list(following.completions), self.completions)

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        if data.rows < _FEWEST_ROWS or self.prompts is None or self.completions is None:
            return []
        findings: list[Finding] = []
        total = LocationCounter(0, data.rows)
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
    """Return what both start with; every text between the two in order starts with it, too.

    Of a long text only the beginning counts.
    """
    least, greatest = least[:_LONGEST_PREFIX], greatest[:_LONGEST_PREFIX]
    for position, (left, right) in enumerate(zip(least, greatest, strict=False)):
        if left != right:
            return least[:position]
    return least[: len(greatest)]


def _ends_of(text: str) -> str:
    """Return a text, or of a long one its beginning and its end."""
    return text if len(text) <= 2 * _SAMPLED_END else text[:_SAMPLED_END] + text[-_SAMPLED_END:]


class _SampledRow(NamedTuple):
    line: int
    byte_offset: int | None
    prompt: str
    completion: str


class SampledText:
    """The first rows without any problem: token boundaries and upper case."""

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.rows: list[_SampledRow] = []

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        if len(self.rows) >= _SAMPLED_ROWS:
            return
        for index, (prompt, completion) in enumerate(
            zip(rows.prompts, rows.completions, strict=True)
        ):
            # Valid rows that are plain pairs have no problem; others may have one that only warns.
            if rows.pairs is None and any(problems(rows.values[index], "prompt_completion")):
                continue
            texts = _ends_of(prompt), _ends_of(completion)
            self.rows.append(_SampledRow(rows.line(index), rows.offset(index), *texts))
            if len(self.rows) >= _SAMPLED_ROWS:
                return

    def merge(self, following: SampledText, lines: int) -> None:
        """See `Check.merge`."""
        wanted = _SAMPLED_ROWS - len(self.rows)
        self.rows += [row._replace(line=row.line + lines) for row in following.rows[:wanted]]

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        del data
        return [*self._unstable_boundaries(), *self._upper_case()]

    def _unstable_boundaries(self) -> list[Finding]:
        """Compare tokens(prompt) + tokens(completion) with tokens(prompt + completion).

        Where they differ, the tokens seen in training are not those of the prompt at inference.
        Text far from the boundary does not matter, so only the ends are tokenized.
        """
        from tunesmith.datasets import tokens  # noqa: PLC0415 - loads a vocabulary

        encoder = tokens.encoder(self.settings.encoding)
        counter = LocationCounter(self.settings.max_examples)
        for row in self.rows:
            prompt = row.prompt[-_BOUNDARY_CHARACTERS:]
            completion = row.completion[:_BOUNDARY_CHARACTERS]
            if not prompt:
                continue
            apart = sum(encoder.count_batch([prompt, completion]))
            together = encoder.count(prompt + completion)
            if apart != together:
                ends = f"{prompt[-10:]!r} + {completion[:10]!r}"
                message = f"{ends} is {together} tokens together, {apart} apart"
                counter.add(Location(row.line, row.byte_offset, message=message))
        if not counter.count:
            return []
        detail = (
            f"{counter.count:,} of the first {len(self.rows):,} rows ({self.settings.encoding})"
        )
        return [make_finding("boundary-unstable", counter, detail=detail)]

    def _upper_case(self) -> list[Finding]:
        form = self.settings.prompt_format or PromptFormat("", "", "")
        texts = {
            "prompts": "".join(row.prompt.removesuffix(form.separator) for row in self.rows),
            "completions": "".join(row.completion.removesuffix(form.stop) for row in self.rows),
        }
        columns: list[str] = []
        for name, text in texts.items():
            upper, lower = sum(map(str.isupper, text)), sum(map(str.islower, text))
            if upper + lower >= _FEWEST_LETTERS and upper > lower:
                columns.append(f"{name}: {upper / (upper + lower):.0%} of the letters")
        if not columns:
            return []
        counter = LocationCounter(0, len(columns))
        return [make_finding("upper-case", counter, detail="; ".join(columns))]
