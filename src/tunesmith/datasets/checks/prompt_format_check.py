"""Whether prompt/completion rows follow one format: separator, leading whitespace, stop sequence.

The format is the one that was given, or the one that most rows of a sample follow. When a row
violates it is decided by `PromptFormat.check_row`; here a fast search of each batch first finds the
rows that could.
"""

from __future__ import annotations

from itertools import repeat
from operator import contains
from typing import TYPE_CHECKING, Final

from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.datasets.findings import Finding

    from .base import CheckedData, ValidRows
    from .settings import CheckSettings

__all__ = ["PromptFormatCheck", "expected_format"]

_KINDS: Final = (
    "separator-missing",
    "separator-repeated",
    "separator-in-completion",
    "leading-whitespace",
    "stop-missing",
    "stop-inside",
)
_PATHS: Final = {"prompt": "$.prompt", "completion": "$.completion"}


class PromptFormatCheck:
    """Rows that violate the format, counted by kind of violation."""

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.format: PromptFormat = expected_format(settings)
        self.counters: dict[str, LocationCounter] = {
            kind: LocationCounter(settings.max_examples) for kind in _KINDS
        }
        self.empty_prompts: LocationCounter = LocationCounter(settings.max_examples)

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        prompts, completions = rows.prompts, rows.completions
        if "" in prompts:
            for index, prompt in enumerate(prompts):
                if not prompt:
                    location = rows.location(index, "$.prompt", "the prompt is empty")
                    self.empty_prompts.add(location)
        for index in self._suspects(rows):
            for violation in self.format.check_row(prompts[index], completions[index]):
                counter = self.counters.get(violation.kind)
                if counter is None:
                    continue
                if counter.wants_examples:
                    message = violation.message[:1].lower() + violation.message[1:].rstrip(".")
                    counter.add(rows.location(index, _PATHS[violation.field], message))
                else:
                    counter.count += 1

    def _suspects(self, rows: ValidRows) -> Sequence[int]:
        """Return the rows that may violate the format: all that do, and perhaps others."""
        form = self.format
        prompts, completions = rows.prompts, rows.completions
        # Where classes repeat, few distinct completions stand for many rows.
        distinct = list(rows.completion_counts)
        lead = len(form.leading_whitespace)
        valid = (
            _only_at_end(prompts, form.separator)
            and _all_start_with(distinct, form.leading_whitespace)
            and _only_at_end([completion[lead:] for completion in distinct], form.stop)
            and not (form.separator and any(map(contains, distinct, repeat(form.separator))))
        )
        if valid:
            return ()
        return [
            index
            for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
            if self._may_violate(prompt, completion)
        ]

    def _may_violate(self, prompt: str, completion: str) -> bool:
        form = self.format
        separator, lead, stop = form.separator, form.leading_whitespace, form.stop
        return (
            (separator and prompt.find(separator) + len(separator) != len(prompt))
            or (separator and separator in completion)
            or (stop and completion.find(stop, len(lead)) + len(stop) != len(completion))
            or (lead and not completion.startswith(lead))
            or completion[len(lead) : len(lead) + 1].isspace()
        )

    def merge(self, following: PromptFormatCheck, lines: int) -> None:
        """See `Check.merge`."""
        for kind, counter in self.counters.items():
            counter.merge(following.counters[kind], lines)
        self.empty_prompts.merge(following.empty_prompts, lines)

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        total = data.rows
        findings = self._missing_parts(total)
        for kind, counter in self.counters.items():
            if counter.count:
                detail = self._detail(kind, counter, total)
                findings.append(make_finding(kind, counter, detail=detail))
        if 0 < self.empty_prompts.count < total:
            findings.append(make_finding("prompt-empty", self.empty_prompts))
        return findings

    def _detail(self, kind: str, counter: LocationCounter, total: int) -> str:
        if kind == "leading-whitespace" and counter.count == total > 1:
            return f"no completion starts with {self.format.leading_whitespace!r} and a letter"
        part = {"separator-missing": "separator", "stop-missing": "stop"}.get(kind)
        value = getattr(self.format, part) if part else None
        if value is None:
            return ""
        word = "prompts" if part == "separator" else "completions"
        exception = ""
        if counter.count == 1 and counter.examples:
            exception = f"; line {counter.examples[0].line} does not"
        return f"{total - counter.count:,} of {total:,} {word} end with {value!r}{exception}"

    def _missing_parts(self, total: int) -> list[Finding]:
        """Return a finding for each part of the format that the rows do not have at all."""
        settings = self.settings
        if settings.prompt_format_given or total <= 1:
            return []
        findings: list[Finding] = []
        no_prompts = settings.task == "open-ended generation"
        if not self.format.separator and not no_prompts:
            findings.append(_missing("separator-missing", total, "no common separator was found"))
        # A class read with max_tokens=1 needs no stop sequence; `Classes` checks that.
        if not self.format.stop and settings.task != "classification":
            findings.append(_missing("stop-missing", total, "no common stop sequence was found"))
        return findings


def _only_at_end(texts: list[str], mark: str) -> bool:
    """Return whether every text ends with `mark` and has it nowhere else."""
    if not mark:
        return True
    # One search through all texts, with another last character each, is much faster than one
    # search for each. That character is not part of the mark, so none is found across two texts.
    other = next(code for code in map(chr, range(len(mark) + 1)) if code not in mark)
    joined = (mark[:-1] + other).join([*map(str.removesuffix, texts, repeat(mark)), ""])
    # The length is the same if the mark was taken away as often as it was put in.
    return len(joined) == len("".join(texts)) and mark not in joined


def _all_start_with(texts: list[str], lead: str) -> bool:
    """Return whether every text starts with exactly this whitespace."""
    if not all(map(str.startswith, texts, repeat(lead))):
        return False
    following = {text[len(lead) : len(lead) + 1] for text in texts}
    return not any(map(str.isspace, following))


def _missing(kind: str, total: int, detail: str) -> Finding:
    return make_finding(kind, LocationCounter(0, total), detail=detail)


def expected_format(settings: CheckSettings) -> PromptFormat:
    """Return the format that rows should follow; completions are expected to start with a space."""
    found = settings.prompt_format or PromptFormat("", "", "")
    if settings.prompt_format_given or found.leading_whitespace:
        return found
    return PromptFormat(found.separator, " ", found.stop)
