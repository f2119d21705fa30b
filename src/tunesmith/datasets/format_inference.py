r"""Infers the prompt format that most rows of a data set already have.

The evidence is kept and shown: "29 of 30 prompts end with '\n\n###\n\n'; line 7 does not". Endings
that rows share by accident are rejected: a letter or digit, the end of a class label, the full
stop of a sentence, a text that also occurs inside rows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from .format_endings import (
    BRACKETED,
    NUMBERED,
    PUNCTUATION,
    Part,
    begins_in_word,
    candidates,
    distinct_texts,
    needed_share,
)
from .format_markers import KNOWN_SEPARATORS, KNOWN_STOPS, without_stops
from .pairs import Pair, pairs
from .prompt_format import PromptFormat
from .task import Task, infer_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .pairs import AnyRow

__all__ = ["Evidence", "Inference", "infer_prompt_format"]

_MAX_INSIDE: Final = 0.1
_SAMPLE: Final = 2_000
_MAX_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """How many rows have one part of a prompt format.

    Attributes:
        part: Which part.
        value: The value found, or "" where none is accepted.
        matching: Rows that have it, or that have the rejected text.
        total: Rows examined.
        exceptions: Lines of the first rows that do not have it.
        inside: Rows in which it also occurs where it must not.
        refused: A text that most rows share and that was rejected; "" if there is none.
        reason: Why it was rejected.
    """

    part: Part
    value: str
    matching: int
    total: int
    exceptions: tuple[int, ...] = ()
    inside: int = 0
    refused: str = ""
    reason: str = ""

    @property
    def unanimous(self) -> bool:
        """Whether every row has the value, and only where it belongs."""
        return bool(self.value) and self.matching == self.total and not self.inside

    def __str__(self) -> str:
        """Return the evidence as one sentence."""
        position = {
            "separator": "prompts end with",
            "leading_whitespace": "completions start with",
            "stop": "completions end with",
        }[self.part]
        if not self.value and self.refused:
            return (
                f"{self.matching:,} of {self.total:,} {position} {self.refused!r}, which was not "
                f"taken for the {self.part.replace('_', ' ')}: {self.reason}."
            )
        if not self.value:
            return f"No common {self.part.replace('_', ' ')} was found in {self.total:,} rows."
        sentence = f"{self.matching:,} of {self.total:,} {position} {self.value!r}"
        if self.exceptions:
            sentence += f"; {_exception_lines(self.exceptions, self.total - self.matching)}"
        if self.inside:
            sentence += f"; in {self.inside:,} rows it also occurs elsewhere"
        return sentence + "."


@dataclass(frozen=True, slots=True)
class Inference:
    """A prompt format and the evidence for each of its parts.

    Attributes:
        format: The format; a part without sufficient evidence is "".
        separator: Evidence for the separator.
        leading_whitespace: Evidence for the whitespace before completions.
        stop: Evidence for the stop sequence.
        task: The inferred task.
        rows: Prompt/completion rows examined.
    """

    format: PromptFormat
    separator: Evidence
    leading_whitespace: Evidence
    stop: Evidence
    task: Task
    rows: int

    def __str__(self) -> str:
        """Return the evidence, one sentence a line."""
        return "\n".join(map(str, (self.separator, self.leading_whitespace, self.stop)))


def infer_prompt_format(rows: Iterable[AnyRow]) -> Inference:
    """Infer the prompt format that most rows already have.

    Candidates come from a sample of the rows; every row is then counted for or against them.

    Args:
        rows: Rows or mappings with `prompt` and `completion`; others are ignored. Read twice, so
            an iterator is first read into memory.
    """
    if isinstance(rows, Iterator):
        rows = list(rows)
    sample = _sample(pairs(rows))
    task = infer_task(sample)
    # A prompt may consist of the separator and little else, such as "A ->".
    prompts, completions = distinct_texts(sample)
    separators = candidates(prompts, KNOWN_SEPARATORS, "separator")
    stops = candidates(completions, KNOWN_STOPS, "stop")
    separator_counts = [_Count(value) for value in separators]
    stop_counts = [_Count(value) for value in stops]
    counts: Counter[str] = Counter()
    lines_by_whitespace: dict[str, list[int]] = {}
    total = 0
    for prompt, completion, line in pairs(rows):
        total += 1
        for count in separator_counts:
            count.observe(prompt, line, completion)
        for count in stop_counts:
            count.observe(completion, line)
        whitespace = completion[: len(completion) - len(completion.lstrip())]
        counts[whitespace] += 1
        lines = lines_by_whitespace.setdefault(whitespace, [])
        if len(lines) <= _MAX_LINES:
            lines.append(line)
    stop = _decide(
        "stop", stop_counts, total, lambda value: _reason_against_stop(value, task, sample)
    )
    for count in separator_counts:
        if count.value != stop.value:
            count.inside += count.at_other_end
    separator = _decide(
        "separator", separator_counts, total, lambda value: _reason_against(value, task)
    )
    leading = _decide_whitespace(counts, lines_by_whitespace, total)
    if any(marker and marker in leading.value for marker in (separator.value, stop.value)):
        reason = "it contains the separator or the stop sequence"
        leading = replace(leading, value="", refused=leading.value, reason=reason)
    return Inference(
        PromptFormat(separator.value, leading.value, stop.value),
        separator,
        leading,
        stop,
        task,
        total,
    )


@dataclass(slots=True)
class _Count:
    """Counts the rows that end with a value and those in which it occurs elsewhere.

    One text may serve as both: at the end of a completion it is the stop sequence. Rows that have
    it there and nowhere else are counted by themselves.
    """

    value: str
    matching: int = 0
    inside: int = 0
    at_other_end: int = 0
    exceptions: list[int] = field(default_factory=list[int])

    def observe(self, text: str, line: int, completion: str = "") -> None:
        end = len(text)
        if text.endswith(self.value):
            self.matching += 1
            end -= len(self.value)
        elif len(self.exceptions) < _MAX_LINES:
            self.exceptions.append(line)
        may_hold = completion and self.value.lstrip() in completion
        held = self._holding(completion) if may_hold else []
        is_inside = 0 <= text.find(self.value) < end
        if is_inside or (held and any(self.value in one.removesuffix(self.value) for one in held)):
            self.inside += 1
        elif held:
            self.at_other_end += 1

    def _holding(self, completion: str) -> list[str]:
        """Return the completion, as it is and as a plan may write it, where the value is in it.

        Known stop sequences at its end are replaced, so they do not count.
        """
        written = (completion, f" {completion.lstrip()}")
        bare = (without_stops(one, "") for one in written if self.value in one)
        return [one for one in bare if self.value in one]


def _decide(
    part: Part, counts: Sequence[_Count], total: int, reason_against: Callable[[str], str]
) -> Evidence:
    """Return the evidence for the first acceptable candidate, or for the first rejected one."""
    accepted: list[Evidence] = []
    refused: list[Evidence] = []
    for count in counts:
        reason = reason_against(count.value)
        if not reason and count.matching < needed_share(count.value, part) * total:
            reason = "too few rows have it"
        if not reason and count.inside > _MAX_INSIDE * total:
            reason = f"it also occurs elsewhere in {count.inside:,} rows"
        value, refusal = ("", count.value) if reason else (count.value, "")
        evidence = Evidence(
            part,
            value,
            count.matching,
            total,
            tuple(count.exceptions),
            count.inside,
            refusal,
            reason,
        )
        (refused if reason else accepted).append(evidence)
    # A marker that every row has already, and once, needs no change at all.
    unanimous = [evidence for evidence in accepted if evidence.unanimous]
    return next(iter([*unanimous, *accepted, *refused]), Evidence(part, "", 0, total))


def _decide_whitespace(counts: Counter[str], lines: dict[str, list[int]], total: int) -> Evidence:
    if not total:
        return Evidence("leading_whitespace", "", 0, 0)
    whitespace, matching = counts.most_common(1)[0]
    others = sorted(line for other, found in lines.items() if other != whitespace for line in found)
    exceptions = tuple(others[:_MAX_LINES])
    return Evidence(
        "leading_whitespace", whitespace, matching, total, exceptions if whitespace else ()
    )


def _sample(rows: Iterator[Pair]) -> list[Pair]:
    """Return up to `_SAMPLE` rows from all over the data, the same ones every time."""
    chosen: list[Pair] = []
    draw = random.Random(0).randrange  # noqa: S311 - a sample, not a secret
    for number, pair in enumerate(rows):
        if number < _SAMPLE:
            chosen.append(pair)
        elif (slot := draw(number + 1)) < _SAMPLE:
            chosen[slot] = pair
    return chosen


def _reason_against(value: str, task: Task) -> str:
    """Return why a shared ending cannot be a marker, or ""."""
    if value in KNOWN_SEPARATORS or NUMBERED.fullmatch(value):
        return ""
    if begins_in_word(value):
        return "it begins in the middle of a word"
    if "\\n" in value:
        return "it holds the two characters \\ and n, not a line break"
    if len(value) == 1:
        return "a single character occurs by accident"
    return _reason_against_words(value, task)


def _reason_against_words(value: str, task: Task) -> str:
    """Return why an ending may belong to the text, by its words and punctuation, or ""."""
    visible = value.strip()
    if visible and all(character in PUNCTUATION for character in visible):
        return "it is the end of a sentence"
    words = visible.replace(" ", "")
    if words.isalnum() and (task == "classification" or not words.isupper()):
        return "it is a word, which may belong to the text"
    if value.startswith("\n") or visible.endswith(":") or BRACKETED.fullmatch(visible):
        return ""
    return "it contains a word, which may belong to the text" if _has_word(visible) else ""


def _reason_against_stop(value: str, task: Task, sample: Sequence[Pair]) -> str:
    """Return why a shared ending of completions cannot be a stop sequence, or ""."""
    if value in KNOWN_STOPS or NUMBERED.fullmatch(value):
        if all(pair.completion.strip() == value.strip() for pair in sample):
            return "it is the whole completion"
        return ""
    if _has_word(value) and not value.startswith("\n") and not BRACKETED.fullmatch(value):
        return "it contains a word, which may belong to the text"
    if any(pair.completion.strip() == value.strip() for pair in sample):
        return _reason_against(value, task) or "it is a whole completion"
    return _reason_against(value, task)


def _has_word(value: str) -> bool:
    """Return whether a value has letters other than the capitals of a marker such as END."""
    return any(letter.isalpha() and not letter.isupper() for letter in value)


def _exception_lines(lines: Sequence[int], count: int) -> str:
    if count == 1:
        return f"line {lines[0]} does not"
    first = ", ".join(map(str, lines[:5]))
    return f"lines {first}{', …' if count > len(lines[:5]) else ''} do not ({count:,} in all)"
