r"""Finds the prompt format that a data set already has, and chooses one where it has none.

Inference goes by the majority and says so: "29 of 30 prompts end with '\n\n###\n\n'; line 7 does
not". It refuses what is shared by accident: a letter or digit, the tail of a class label, the
full stop of a sentence, a text that also occurs in the middle of rows.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tunesmith.datasets.pairs import Pair, pairs
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.task import Task, infer_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tunesmith.datasets.pairs import AnyRow
    from tunesmith.datasets.tokens import Encoder

__all__ = ["Evidence", "Inference", "choose_prompt_format", "infer_prompt_format"]

Part: TypeAlias = Literal["separator", "leading_whitespace", "stop"]

SEPARATORS: Final = (
    "\n\n###\n\n",
    "\n\n===\n\n",
    "\n\n---\n\n",
    "\n\n===>\n\n",
    "\n\n--->\n\n",
    "\n\n### =>\n\n",
)
"""Separators to choose from, the first that occurs nowhere."""

STOPS: Final = ("\n", " END", "\n###\n", "***", "+++", "&&&", "$$$", "@@@", "%%%", " [END]")
"""Stop sequences to choose from, the first that occurs nowhere."""

_KNOWN_SEPARATORS: Final = (*SEPARATORS, " ->", "\n->", "\n\n->\n\n", "###", "\n###\n")
_KNOWN_STOPS: Final = (*STOPS, "###", "\n\n###\n\n", "<|endoftext|>", "</s>", " STOP", "\n\n")

_MAJORITY: Final = 0.8
_MOST_INSIDE: Final = 0.1
_LONGEST_SUFFIX: Final = 64
_SAMPLE: Final = 2_000
_LINES_NAMED: Final = 20
_SENTENCE_MARKS: Final = frozenset(
    ".,;:!?…'\"»)]}\u2019\u201d\u300d\u3002\uff01\uff09\uff0c\uff1a\uff1b\uff1f"
)
_BRACKETED: Final = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rows say about one part of the format.

    Attributes:
        part: Which part.
        value: The value found, or "" where there is none to accept.
        matching: Rows that have it.
        total: Rows looked at.
        exceptions: Lines of the first rows that do not have it.
        inside: Rows in which it also occurs in a place where it must not.
        refused: A text that most rows share and that was not accepted; "" if there is none.
        reason: Why it was refused.
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
        """Whether every row has the value, and has it in the right place only."""
        return bool(self.value) and self.matching == self.total and not self.inside

    def __str__(self) -> str:
        """Return the evidence as one sentence."""
        place = {
            "separator": "prompts end with",
            "leading_whitespace": "completions start with",
            "stop": "completions end with",
        }[self.part]
        if not self.value and self.refused:
            return (
                f"{self.matching:,} of {self.total:,} {place} {self.refused!r}, which was not "
                f"taken for the {self.part.replace('_', ' ')}: {self.reason}."
            )
        if not self.value:
            return f"No common {self.part.replace('_', ' ')} was found in {self.total:,} rows."
        sentence = f"{self.matching:,} of {self.total:,} {place} {self.value!r}"
        if self.exceptions:
            sentence += f"; {_lines_do_not(self.exceptions, self.total - self.matching)}"
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
        task: The task that the rows look like.
        rows: Prompt/completion rows looked at.
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
    """Find the prompt format that most rows already keep.

    Candidates come from a sample of the rows; every row is then counted for or against them.

    Args:
        rows: Rows or mappings with `prompt` and `completion`; others are ignored. Read twice, so
            an iterator is first gathered in memory.
    """
    if isinstance(rows, Iterator):
        rows = list(rows)
    sample = _sample(pairs(rows))
    task = infer_task(sample)
    # A row whose prompt is all there is, such as "A ->", tells as much as any other.
    separators = _candidates([pair.prompt for pair in sample], _KNOWN_SEPARATORS)
    stops = _candidates([pair.completion for pair in sample], _KNOWN_STOPS)
    separator_counts = [_Count(value) for value in separators]
    stop_counts = [_Count(value) for value in stops]
    leads: Counter[str] = Counter()
    lead_lines: dict[str, list[int]] = {}
    total = 0
    for prompt, completion, line in pairs(rows):
        total += 1
        for count in separator_counts:
            count.observe(prompt, line, elsewhere=completion)
        for count in stop_counts:
            count.observe(completion, line)
        lead = completion[: len(completion) - len(completion.lstrip())]
        leads[lead] += 1
        lines = lead_lines.setdefault(lead, [])
        if len(lines) <= _LINES_NAMED:
            lines.append(line)
    separator = _decide("separator", separator_counts, total, lambda value: _refuse(value, task))
    stop = _decide("stop", stop_counts, total, lambda value: _refuse_stop(value, task, sample))
    leading = _decide_lead(leads, lead_lines, total)
    if any(mark and mark in leading.value for mark in (separator.value, stop.value)):
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


def choose_prompt_format(
    rows: Iterable[AnyRow],
    task: Task | None = None,
    encoding: str | Encoder | None = None,
) -> PromptFormat:
    """Choose a format for rows that are not yet formatted.

    The separator occurs in no prompt and no completion, the stop sequence in no completion.
    Classes that are all single tokens need no stop sequence: `max_tokens=1` ends them.

    Args:
        rows: Rows or mappings with `prompt` and `completion`. Read more than once, so an
            iterator is first gathered in memory.
        task: The task; default: what the rows look like.
        encoding: Whose tokens count for classes; default "r50k_base".
    """
    if isinstance(rows, Iterator):
        rows = list(rows)
    task = task or infer_task(pairs(rows))
    separators, stops = list(SEPARATORS), list(STOPS)
    labels: set[str] = set()
    for prompt, completion, _ in pairs(rows):
        said = completion.strip()
        separators = [mark for mark in separators if _is_free(mark, prompt, said)]
        stops = [mark for mark in stops if _is_free(mark, f" {said}")]
        if task == "classification":
            labels.add(said)
    separator = "" if task == "open-ended generation" else next(iter(separators), "")
    if not separator and task != "open-ended generation":
        separator = _numbered(lambda mark: (_is_free(mark, *pair[:2]) for pair in pairs(rows)))
    bare = PromptFormat(separator, " ", "")
    labels.discard("")
    if labels and set(bare.class_tokens(labels, encoding).values()) == {1}:
        return bare
    stop = next(iter(stops), "") or _numbered(
        lambda mark: (_is_free(mark, f" {pair.completion.strip()}") for pair in pairs(rows))
    )
    return PromptFormat(separator, " ", stop)


def _is_free(mark: str, *texts: str) -> bool:
    """Say whether no text contains a mark, or completes one where they meet."""
    overlap = len(mark) - 1
    for text in texts:
        tail = text[-overlap:] if overlap else ""
        if mark in text or (tail + mark).find(mark) < len(tail):
            return False
    return True


def _numbered(free: Callable[[str], Iterable[bool]]) -> str:
    """Return a mark that occurs nowhere, for data that holds all the usual ones."""
    number = 1
    while not all(free(f"\n\n### {number} ###\n\n")):
        number += 1
    return f"\n\n### {number} ###\n\n"


@dataclass(slots=True)
class _Count:
    """How many rows end with a value, which do not, and in how many it occurs elsewhere."""

    value: str
    matching: int = 0
    inside: int = 0
    exceptions: list[int] = field(default_factory=list[int])

    def observe(self, text: str, line: int, elsewhere: str = "") -> None:
        end = len(text)
        if text.endswith(self.value):
            self.matching += 1
            end -= len(self.value)
        elif len(self.exceptions) < _LINES_NAMED:
            self.exceptions.append(line)
        if 0 <= text.find(self.value) < end or self.value in elsewhere:
            self.inside += 1


def _decide(
    part: Part, counts: Sequence[_Count], total: int, refuse: Callable[[str], str]
) -> Evidence:
    """Accept the first candidate that nothing speaks against."""
    refused = Evidence(part, "", 0, total)
    for count in counts:
        reason = refuse(count.value)
        if not reason and count.matching < _MAJORITY * total:
            reason = "too few rows have it"
        if not reason and count.inside > _MOST_INSIDE * total:
            reason = f"it also occurs elsewhere in {count.inside:,} rows"
        exceptions = tuple(count.exceptions)
        if not reason:
            return Evidence(part, count.value, count.matching, total, exceptions, count.inside)
        if not refused.refused:
            refused = Evidence(
                part, "", count.matching, total, exceptions, count.inside, count.value, reason
            )
    return refused


def _decide_lead(leads: Counter[str], lines: dict[str, list[int]], total: int) -> Evidence:
    if not total:
        return Evidence("leading_whitespace", "", 0, 0)
    lead, matching = leads.most_common(1)[0]
    others = sorted(line for other, found in lines.items() if other != lead for line in found)
    exceptions = tuple(others[:_LINES_NAMED])
    return Evidence("leading_whitespace", lead, matching, total, exceptions if lead else ())


def _sample(rows: Iterator[Pair]) -> list[Pair]:
    """Return up to `_SAMPLE` rows from anywhere in the data, the same ones every time."""
    chosen: list[Pair] = []
    draw = random.Random(0).randrange  # noqa: S311 - a sample, not a secret
    for number, pair in enumerate(rows):
        if number < _SAMPLE:
            chosen.append(pair)
        elif (slot := draw(number + 1)) < _SAMPLE:
            chosen[slot] = pair
    return chosen


def _candidates(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return possible endings, the most plausible first."""
    shared = _common_suffix(texts)
    if not shared:
        return []
    found = sorted((value for value in known if shared.endswith(value)), key=len, reverse=True)
    found += [shared[start:] for start in _starts(shared)]
    return list(dict.fromkeys(found or [shared]))


def _common_suffix(texts: Sequence[str]) -> str:
    """Return the longest ending that most of the texts share, up to a limit."""
    needed = max(_MAJORITY * len(texts), 2)
    remaining = list(texts)
    length = 0
    while length < _LONGEST_SUFFIX:
        before = Counter(text[-length - 1] for text in remaining if len(text) > length)
        if not before or (best := before.most_common(1)[0])[1] < needed:
            break
        remaining = [
            text for text in remaining if len(text) > length and text[-length - 1] == best[0]
        ]
        length += 1
    return remaining[0][len(remaining[0]) - length :] if length else ""


def _starts(shared: str) -> list[int]:
    """Return where in a shared ending a separator may begin, the best place first.

    First a bracket such as <sep>, then the last line with the line breaks before it, then its
    last word with the white space before it, then the marks at the very end, then white space
    alone; at last whole lines further up, for a last line that is not unique.
    """
    visible = len(shared.rstrip())
    lines = [
        position
        for position in range(visible)
        if shared[position] == "\n" and (position == 0 or shared[position - 1] != "\n")
    ]
    spaces = [
        position
        for position in range(visible)
        if shared[position].isspace() and (position == 0 or not shared[position - 1].isspace())
    ]
    marks = visible
    while marks and not (shared[marks - 1].isalnum() or shared[marks - 1].isspace()):
        marks -= 1
    while marks < visible and shared[marks] in _SENTENCE_MARKS:
        marks += 1
    brackets = [match.start() for match in _BRACKETED.finditer(shared) if match.end() == visible]
    return [*brackets, *lines[-1:], *spaces[-1:], marks, visible, *reversed(lines[:-1]), 0]


def _refuse(value: str, task: Task) -> str:
    """Say why a shared ending cannot be meant as a mark, or return ""."""
    visible = value.strip()
    if not value or value[0].isalnum():
        return "it begins in the middle of a word"
    if len(value) == 1:
        return "a single character occurs by accident"
    if visible and all(mark in _SENTENCE_MARKS for mark in visible):
        return "it is the end of a sentence"
    words = visible.replace(" ", "")
    if words.isalnum() and (task == "classification" or not words.isupper()):
        return "it is a word, which may belong to the text"
    if value.startswith("\n") or visible.endswith(":") or _BRACKETED.fullmatch(visible):
        return ""
    return "it contains a word, which may belong to the text" if _has_word(visible) else ""


def _refuse_stop(value: str, task: Task, sample: Sequence[Pair]) -> str:
    """As `_refuse`, for the end of a completion, which may be a class label."""
    if value in _KNOWN_STOPS:
        if all(pair.completion.strip() == value.strip() for pair in sample):
            return "it is the whole completion"
        return ""
    if _has_word(value) and not value.startswith("\n") and not _BRACKETED.fullmatch(value):
        return "it contains a word, which may belong to the text"
    return _refuse(value, task)


def _has_word(value: str) -> bool:
    """Say whether a value holds more than marks and capitals, such as END."""
    return any(letter.isalpha() and not letter.isupper() for letter in value)


def _lines_do_not(lines: Sequence[int], count: int) -> str:
    if count == 1:
        return f"line {lines[0]} does not"
    shown = ", ".join(map(str, lines[:5]))
    return f"lines {shown}{', …' if count > len(lines[:5]) else ''} do not ({count:,} in all)"
