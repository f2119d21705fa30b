"""The steps that a plan may take, found by looking at the rows.

Some make two texts of each row, some give every row the prompt format, some are proposals that
nobody should follow without a look.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from tunesmith.datasets import fixes
from tunesmith.datasets.class_numbers import (
    MOST_CLASSES,
    number_labels,
    sharing_first_token,
)
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.fixes import Step, always
from tunesmith.datasets.pairs import pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tunesmith.datasets.format_inference import Inference
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.rows import Row
    from tunesmith.datasets.task import Task
    from tunesmith.datasets.tokens import Encoder

__all__ = [
    "cleaning",
    "dropping",
    "duplicates",
    "limiting",
    "numbering",
    "proposals",
    "room_for_marks",
    "shorten",
    "writing",
]

_LONGEST_PROMPT_PREFIX: Final = 12
_LONGEST_COMPLETION_PREFIX: Final = 5
_FEWEST_FOR_A_PREFIX: Final = 10
_ROWS_FOR_CASE: Final = 1_000
# More than one capital of so many letters is worth a word; scripts without case have none.
_CAPITALS_OF: Final = 3


def cleaning(rows: Iterable[Row]) -> list[Step]:
    """Return the steps that leave two texts in each row: prompt and completion.

    Raises:
        DatasetError: No column is called prompt or completion.
    """
    names: Counter[str] = Counter()
    for row in rows:
        names.update(row.value.keys())
    renamed: dict[str, str] = {}
    for wanted in fixes.FIELDS:
        if not names or wanted in names:
            continue
        alike = [name for name in names if name.strip().casefold() == wanted]
        if not alike:
            raise DatasetError(
                f"No column is called {wanted!r}. The columns are "
                f"{', '.join(repr(name) for name in names)}: name the one that holds the {wanted} "
                f"with {wanted}='NAME', on the command line with --{wanted} NAME."
            )
        renamed[alike[0]] = wanted
    extra = [name for name in names if renamed.get(name, name) not in fixes.FIELDS]
    return [
        Step(
            "rename-fields",
            "Rename " + ", ".join(f"{old!r} to {new!r}" for old, new in renamed.items()),
            always(fixes.rename_fields(renamed)),
            necessary=True,
        ),
        Step(
            "keep-fields",
            "Keep only prompt and completion"
            + (f", not {', '.join(map(repr, extra))}" if extra else ""),
            always(fixes.keep_fields),
            necessary=True,
        ),
        Step(
            "values-to-text",
            "Write values that are not text as text",
            always(fixes.values_to_text),
            necessary=True,
        ),
        Step(
            "replace-surrogates",
            "Replace broken characters by U+FFFD",
            always(fixes.replace_surrogates),
            "Half of a surrogate pair cannot be written as UTF-8.",
            necessary=True,
        ),
    ]


def room_for_marks(form: PromptFormat) -> Iterator[Step]:
    """Yield the steps that take the marks out of the middle of texts."""
    if form.separator:
        yield Step(
            "remove-separator-inside",
            f"Take the separator {form.separator!r} out of texts",
            always(fixes.take_out_separator(form)),
            "It marks the end of the prompt and may occur nowhere else.",
        )
    if form.stop:
        yield Step(
            "remove-stop-inside",
            f"Take the stop sequence {form.stop!r} out of completions",
            always(fixes.take_out_stop(form)),
            "Every answer would be cut off there.",
        )


def writing(form: PromptFormat, inference: Inference | None) -> Iterator[Step]:
    """Yield the steps that give every row the format."""
    if form.separator:
        yield Step(
            "separator",
            f"End every prompt with the separator {form.separator!r}",
            always(fixes.set_separator(form)),
            str(inference.separator) if inference else "",
        )
    if form.stop:
        yield Step(
            "stop",
            f"End every completion with the stop sequence {form.stop!r}",
            always(fixes.set_stop(form)),
            str(inference.stop) if inference else "",
        )
    if form.leading_whitespace:
        yield Step(
            "leading-whitespace",
            f"Start every completion with {form.leading_whitespace!r}",
            always(fixes.set_leading_whitespace(form)),
            "Most tokens of the vocabulary begin with a space.",
        )


def dropping(form: PromptFormat) -> Step:
    """Return the step that drops rows without a completion."""
    return Step(
        "drop-empty-completions",
        "Drop rows without a completion",
        always(fixes.drop_empty_completions(form)),
        "A row without a completion teaches nothing.",
        necessary=True,
    )


def limiting(limit: int, encoding: str | Encoder) -> Step:
    """Return the step that drops rows over the token limit."""
    return Step(
        "drop-long-rows",
        f"Drop rows of more than {limit:,} tokens",
        always(fixes.drop_long_rows(limit, encoding)),
        f"Prompt and completion, separator included, may have {limit:,} tokens.",
    )


def numbering(labels: Iterable[str], form: PromptFormat, encoding: str | Encoder) -> Iterator[Step]:
    """Yield the proposal to write classes as numbers, where their first tokens do not differ."""
    names = sorted(set(labels))
    shared = sharing_first_token(names, form.leading_whitespace, encoding)
    if not shared or len(names) > MOST_CLASSES:
        return
    numbers = number_labels(names, encoding)
    examples = ", ".join(f"{label!r} as {numbers[label]}" for label in shared[:3])
    yield Step(
        "number-classes",
        f"Write the {len(names):,} classes as numbers: {examples}, …",
        always(fixes.rename_classes(numbers, form)),
        f"{len(shared):,} of them, such as {shared[0]!r}, begin with the same token as another; "
        "metrics for classes need first tokens that differ.",
        enabled=False,
    )


def duplicates() -> Step:
    """Return the step that drops rows that repeat an earlier one."""
    return Step("drop-duplicates", "Drop rows that repeat an earlier one", fixes.drop_duplicates)


def proposals(rows: Iterable[Row], form: PromptFormat, task: Task) -> Iterator[Step]:
    """Yield what nobody should follow without a look: these steps start disabled."""
    prefixes, cases = _habits(rows, form)
    longest = {"prompt": _LONGEST_PROMPT_PREFIX, "completion": _LONGEST_COMPLETION_PREFIX}
    for name in fixes.FIELDS:
        prefix = _whole_words(prefixes.get(name) or "")
        # The words that all labels share are part of the labels.
        is_label = name == "completion" and task == "classification"
        if len(prefix) >= longest[name] and not is_label:
            yield Step(
                f"strip-{name}-prefix",
                f"Take {shorten(prefix)} off the start of every {name}",
                always(fixes.strip_prefix(name, prefix)),
                f"All {name}s start with it; a fine-tuned model does not need to be told.",
                enabled=False,
            )
        if _CAPITALS_OF * cases[name, True] > cases[name, False]:
            yield Step(
                f"lower-case-{name}",
                f"Write every {name} in lower case",
                always(fixes.lower_case(name)),
                f"More than a third of the letters in {name}s are capitals, which take more "
                "tokens.",
                enabled=False,
            )


def _habits(
    rows: Iterable[Row], form: PromptFormat
) -> tuple[dict[str, str | None], Counter[tuple[str, bool]]]:
    """Return the prefix that each field shares, and by (field, capital?) the letters counted."""
    prefixes: dict[str, str | None] = {"prompt": None, "completion": None}
    cases: Counter[tuple[str, bool]] = Counter()
    seen = 0
    for number, (prompt, completion, _) in enumerate(pairs(rows)):
        texts = {
            "prompt": form.parse_prompt(prompt),
            "completion": form.bare_completion(completion),
        }
        for name, text in texts.items():
            prefixes[name] = _common_prefix(prefixes[name], text.lstrip())
            if number < _ROWS_FOR_CASE:
                cases[name, True] += sum(map(str.isupper, text))
                cases[name, False] += sum(map(str.isalpha, text))
        seen = number + 1
        if seen > _ROWS_FOR_CASE and not any(prefixes.values()):
            break
    if seen < _FEWEST_FOR_A_PREFIX:
        prefixes.clear()
    return prefixes, cases


def _common_prefix(known: str | None, text: str) -> str:
    if known is None or text.startswith(known):
        return text if known is None else known
    limit = min(len(known), len(text))
    same = next((index for index in range(limit) if known[index] != text[index]), limit)
    return known[:same]


def _whole_words(prefix: str) -> str:
    """Cut a prefix after its last white space or mark, so that no word is torn."""
    while prefix and prefix[-1].isalnum():
        prefix = prefix[:-1]
    return prefix


def shorten(value: object, width: int = 100) -> str:
    """Show a value on one line, both of its ends if it is long: formats differ at the ends."""
    shown = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    if len(shown) <= width:
        return shown
    half = (width - 3) // 2
    return f"{shown[:half]} … {shown[-half:]}"
