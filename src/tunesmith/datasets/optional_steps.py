"""The steps of a plan that start disabled, because they change what the texts say.

They remove a prefix that all texts share, write texts in lower case, and write classes as numbers.
A person should look at the samples of each before it is enabled.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .class_numbers import MAX_CLASSES, number_labels, sharing_first_token
from .fixes import FIELDS, Step, lower_case, rename_classes, stateless, strip_prefix
from .pairs import pairs
from .plan_execution import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .prompt_format import PromptFormat
    from .rows import Row
    from .task import Task
    from .tokens import Encoder

__all__ = ["number_classes_step", "optional_text_steps"]

_MIN_PREFIX: Final = {"prompt": 12, "completion": 5}
_MIN_ROWS_FOR_PREFIX: Final = 10
_LONGEST_PREFIX: Final = 10_000
_ROWS_FOR_CASE: Final = 1_000
# More than one capital in so many letters is worth a proposal; scripts without case have none.
_LETTERS_PER_CAPITAL: Final = 3


def optional_text_steps(
    rows: Iterable[Row], prompt_format: PromptFormat, task: Task
) -> Iterator[Step]:
    """Yield the steps that remove shared prefixes and that write texts in lower case."""
    statistics = _text_statistics(rows, prompt_format)
    for name in FIELDS:
        prefix = _whole_words(statistics.prefixes.get(name) or "")
        # The words that all labels share are part of the labels.
        is_label = name == "completion" and task == "classification"
        if len(prefix) >= _MIN_PREFIX[name] and not is_label:
            yield Step(
                f"strip-{name}-prefix",
                f"Remove {shorten(prefix)} from the start of every {name}",
                stateless(strip_prefix(name, prefix)),
                f"All {name}s start with it; a fine-tuned model does not need it.",
                enabled=False,
            )
        if _LETTERS_PER_CAPITAL * statistics.upper[name] > statistics.letters[name]:
            yield Step(
                f"lower-case-{name}",
                f"Write every {name} in lower case",
                stateless(lower_case(name)),
                f"More than a third of the letters in {name}s are in upper case, which takes more "
                "tokens.",
                enabled=False,
            )


def number_classes_step(
    rows: Iterable[Row], prompt_format: PromptFormat, encoding: str | Encoder
) -> Iterator[Step]:
    """Yield the step that writes classes as numbers, if some begin with the same token."""
    labels = {prompt_format.bare_completion(pair.completion).strip() for pair in pairs(rows)}
    names = sorted(labels - {""})
    ambiguous = sharing_first_token(names, prompt_format.leading_whitespace, encoding)
    if not ambiguous or len(names) > MAX_CLASSES:
        return
    numbers = number_labels(names, encoding)
    examples = ", ".join(f"{label!r} as {numbers[label]}" for label in ambiguous[:3])
    yield Step(
        "number-classes",
        f"Write the {len(names):,} classes as numbers: {examples}, …",
        stateless(rename_classes(numbers, prompt_format)),
        f"{len(ambiguous):,} of them, such as {ambiguous[0]!r}, begin with the same token as "
        "another, so the first token of an answer does not tell which it is. Numbers are shorter.",
        enabled=False,
    )


@dataclass(slots=True)
class _TextStatistics:
    """By field: the prefix that all texts share, and the number of letters and capitals."""

    prefixes: dict[str, str | None] = field(default_factory=dict[str, str | None])
    letters: Counter[str] = field(default_factory=Counter[str])
    upper: Counter[str] = field(default_factory=Counter[str])


def _text_statistics(rows: Iterable[Row], prompt_format: PromptFormat) -> _TextStatistics:
    statistics = _TextStatistics(dict.fromkeys(FIELDS))
    prefixes = statistics.prefixes
    seen = 0
    for number, (prompt, completion, _) in enumerate(pairs(rows)):
        texts = {
            "prompt": prompt_format.parse_prompt(prompt),
            "completion": prompt_format.bare_completion(completion),
        }
        for name, text in texts.items():
            prefixes[name] = _common_prefix(prefixes[name], text.lstrip())
            if number < _ROWS_FOR_CASE:
                start = text[:_LONGEST_PREFIX]
                statistics.upper[name] += sum(map(str.isupper, start))
                statistics.letters[name] += sum(map(str.isalpha, start))
        seen = number + 1
        if seen > _ROWS_FOR_CASE and not any(prefixes.values()):
            break
    if seen < _MIN_ROWS_FOR_PREFIX:
        prefixes.clear()
    return statistics


def _common_prefix(known: str | None, text: str) -> str:
    if known is None:
        return text[:_LONGEST_PREFIX]
    if text.startswith(known):
        return known
    limit = min(len(known), len(text))
    same = next((index for index in range(limit) if known[index] != text[index]), limit)
    return known[:same]


def _whole_words(prefix: str) -> str:
    """Return the prefix up to its last white space or punctuation, so that no word is split."""
    while prefix and prefix[-1].isalnum():
        prefix = prefix[:-1]
    return prefix
