"""Finds the steps of a plan: what has to be done to the rows of a source, and in which order.

The order matters. First each row becomes two texts; on these the prompt format is inferred and
chosen. Then texts are changed (see `optional_steps`), markers inside them removed, and rows
without a completion dropped, before the format is written and duplicates and long rows are found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from . import fixes, format_fixes
from .conversation_steps import conversation_steps
from .dataset_errors import DatasetError
from .fixes import FIELDS, Step, stateless
from .format_choice import choose_prompt_format
from .format_inference import Inference, infer_prompt_format
from .format_markers import without_separators, without_stops
from .optional_steps import number_classes_step, optional_text_steps
from .pairs import StoredPairs, pairs
from .plan_execution import FixedRows, read_rows
from .prompt_format import PromptFormat, require_prompt_format
from .recognition import recognise_rows
from .rows import ROW_FORMATS, detect_row_format
from .task import Task, infer_task
from .training_defaults import DEFAULT_TOKEN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .readers import Source
    from .tokens import Encoder

__all__ = ["PlanOptions", "ProposedSteps", "first_fault", "propose_steps"]

_ROWS_FOR_DETECTION: Final = 1_000
_FIELD_SET: Final = frozenset(FIELDS)
_NOTHING: Final[tuple[object, ...]] = (None, "", [], {})
_MOST_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the user asked of a plan; `Dataset.plan` describes each option."""

    prompt_format: PromptFormat | None = None
    task: Task | None = None
    token_limit: int = DEFAULT_TOKEN_LIMIT
    encoding: str | Encoder = "r50k_base"

    def __post_init__(self) -> None:
        require_prompt_format(self.prompt_format)


@dataclass(frozen=True, slots=True)
class ProposedSteps:
    """The steps for a source, and what was found out about its rows on the way.

    Attributes:
        steps: The steps, in the order in which they are applied.
        prompt_format: The format that the rows will have; None if they are not prompt/completion.
        inference: The evidence for the format; None where it was given.
        task: The task that the rows are for; None if they are not prompt/completion.
    """

    steps: list[Step]
    prompt_format: PromptFormat | None = None
    inference: Inference | None = None
    task: Task | None = None


def propose_steps(source: Source, options: PlanOptions) -> ProposedSteps:
    """Read the rows and find the steps that they may need.

    Raises:
        DatasetError: No column could be the prompt or the completion, or no line can be read.
    """
    start = [row.value for row in islice(read_rows(source), _ROWS_FOR_DETECTION)]
    if not start and (fault := first_fault(source)):
        raise DatasetError(f"The file holds no row to learn from.{fault}")
    _require_row_format(start)
    row_format = detect_row_format(start)
    if row_format != "prompt_completion":
        return ProposedSteps(list(conversation_steps(row_format)))
    text_steps = [*_two_texts(source), _typed_line_breaks()]
    for step in text_steps:
        step.exempt = fixes.is_plain
    rows = StoredPairs(FixedRows(source, [*text_steps, _drop_empty(PromptFormat("", "", ""))]))
    prompt_format = options.prompt_format
    inference = None if prompt_format else infer_prompt_format(rows)
    task = options.task or _task(rows, inference, prompt_format)
    if inference is not None:
        found = chosen = inference.format
        if not (found.separator and found.stop):
            chosen = choose_prompt_format(rows, task, options.encoding, found=found)
        prompt_format = PromptFormat(chosen.separator, " ", chosen.stop)
    prompt_format = prompt_format or PromptFormat()
    steps = [*text_steps, *optional_text_steps(rows, prompt_format, task)]
    if task == "classification":
        steps += number_classes_step(rows, prompt_format, options.encoding)
    steps += [
        *_remove_inner_markers(prompt_format),
        _drop_empty(prompt_format),
        *_write_format(prompt_format, inference),
        _drop_duplicates(),
        _drop_long(options.token_limit, options.encoding),
    ]
    return ProposedSteps(steps, prompt_format, inference, task)


def first_fault(source: Source) -> str:
    """Return a sentence about the first line that could not be read; "" if there is none."""
    faults = (fault for batch in source.batches() for fault in batch.faults)
    location = next((fault.location for fault in faults if fault.lost), None)
    if location is None:
        return ""
    return f" The first line that cannot be read is {location}: {location.message}."


def _require_row_format(rows: list[dict[str, Any]]) -> None:
    """Refuse rows of a format that is known and that nothing is trained on.

    Raises:
        DatasetError: Most rows have such a format.
    """
    found = recognise_rows(rows)
    if found is None or found.name in ROW_FORMATS:
        return
    advice = (
        f"Convert them first: datasets.read(FILE, to={found.target!r}), on the command line "
        f"tunesmith tools convert FILE --to {found.target}."
        if found.target
        else "They cannot be converted."
    )
    columns = ", ".join(map(repr, rows[0]))
    raise DatasetError(
        f"The rows have the format {found.label}, with {found.keys}. {advice} Or name the columns "
        f"of the texts with prompt='NAME' and completion='NAME', on the command line with "
        f"--prompt NAME and --completion NAME. The columns are {columns}."
    )


def _task(
    rows: StoredPairs, inference: Inference | None, prompt_format: PromptFormat | None
) -> Task:
    """Return the task of the rows, which must be the same once they are in their format."""
    form = inference.format if inference else prompt_format or PromptFormat()
    unusual = without_separators(form.separator, "") + without_stops(form.stop, "")
    if inference is not None and not unusual.strip():
        return inference.task
    return infer_task(pairs(rows), form.separator, form.stop)


def _two_texts(source: Source) -> list[Step]:
    """Return the steps that leave two texts in each row, prompt and completion.

    Raises:
        DatasetError: No column is called prompt or completion.
    """
    names, with_text = _columns(source)
    renamed: dict[str, str] = {}
    for field in FIELDS:
        if not names or field in names:
            continue
        matches = [name for name in names if name.strip().casefold() == field]
        if not matches:
            raise DatasetError(
                f"No column is called {field!r}. The columns are {_listed(map(repr, names))}: name "
                f"the one that holds the {field} with {field}='NAME', on the command line with "
                f"--{field} NAME."
            )
        renamed[matches[0]] = field
    extra = [name for name in names if renamed.get(name, name) not in FIELDS]
    return [
        Step(
            "rename-fields",
            "Rename " + ", ".join(f"{old!r} to {new!r}" for old, new in renamed.items()),
            stateless(fixes.rename_fields(renamed)),
            necessary=True,
        ),
        Step(
            "keep-fields",
            "Keep only prompt and completion" + _left_out(extra, with_text),
            stateless(fixes.keep_fields),
            "Nothing is learned from other columns. Without this fix they stay in the rows.",
        ),
        Step(
            "fill-fields",
            "Write an empty text for a prompt or completion that is missing",
            stateless(fixes.fill_fields),
            necessary=True,
        ),
        Step(
            "values-to-text",
            "Write values that are not text as text",
            stateless(fixes.values_to_text),
            necessary=True,
        ),
        Step(
            "replace-surrogates",
            "Replace broken characters with U+FFFD",
            stateless(fixes.replace_surrogates),
            "A lone surrogate cannot be written as UTF-8.",
            necessary=True,
        ),
    ]


def _columns(source: Source) -> tuple[list[str], Counter[str]]:
    """Return the names of all columns, and in how many rows each of the others holds text."""
    names: dict[str, None] = {}
    with_text: Counter[str] = Counter()
    for batch in source.batches():
        if batch.pairs is not None and len(batch):
            names.update(dict.fromkeys(FIELDS))
            continue
        for value in batch.values:
            names.update(dict.fromkeys(value))
            if value.keys() != _FIELD_SET:
                with_text.update(name for name, cell in value.items() if cell not in _NOTHING)
    return list(names), with_text


def _left_out(extra: list[str], with_text: Counter[str]) -> str:
    """Return which columns are left out, and how many rows lose text with them."""
    if not extra:
        return ""
    extra = sorted(extra, key=lambda name: -with_text[name])
    columns = (
        f"{name!r} ({with_text[name]:,} {'row' if with_text[name] == 1 else 'rows'} with text)"
        for name in extra
    )
    return f", not {_listed(columns)}"


def _listed(words: Iterable[str]) -> str:
    listed = list(words)
    more = f" and {len(listed) - _MOST_LISTED:,} more" if len(listed) > _MOST_LISTED else ""
    return ", ".join(listed[:_MOST_LISTED]) + more


def _typed_line_breaks() -> Step:
    return Step(
        "typed-line-breaks",
        "Write \\n that was typed at the end of a text as a line break",
        stateless(format_fixes.write_typed_line_breaks),
        "The model would learn the two characters \\ and n.",
    )


def _remove_inner_markers(prompt_format: PromptFormat) -> Iterator[Step]:
    if prompt_format.separator:
        yield Step(
            "remove-separator-inside",
            f"Remove the separator {prompt_format.separator!r} from texts",
            stateless(format_fixes.remove_inner_separators(prompt_format)),
            "It marks the end of the prompt and may occur nowhere else.",
        )
    if prompt_format.stop:
        yield Step(
            "remove-stop-inside",
            f"Remove the stop sequence {prompt_format.stop!r} from completions",
            stateless(format_fixes.remove_inner_stops(prompt_format)),
            "Every answer would be cut off there.",
        )


def _write_format(prompt_format: PromptFormat, inference: Inference | None) -> Iterator[Step]:
    if prompt_format.separator:
        yield Step(
            "separator",
            f"End every prompt with the separator {prompt_format.separator!r}",
            stateless(format_fixes.write_separator(prompt_format)),
            str(inference.separator) if inference else "",
        )
    if prompt_format.stop:
        yield Step(
            "stop",
            f"End every completion with the stop sequence {prompt_format.stop!r}",
            stateless(format_fixes.write_stop(prompt_format)),
            str(inference.stop) if inference else "",
        )
    if prompt_format.leading_whitespace:
        yield Step(
            "leading-whitespace",
            f"Start every completion with {prompt_format.leading_whitespace!r}",
            stateless(format_fixes.write_leading_whitespace(prompt_format)),
            "Most tokens of the vocabulary begin with a space.",
        )


def _drop_empty(prompt_format: PromptFormat) -> Step:
    return Step(
        "drop-empty-completions",
        "Drop rows without a completion",
        stateless(fixes.drop_empty_completions(prompt_format)),
        "The model learns nothing from a row without a completion.",
        necessary=True,
    )


def _drop_duplicates() -> Step:
    return Step("drop-duplicates", "Drop rows that repeat an earlier one", fixes.drop_duplicates)


def _drop_long(limit: int, encoding: str | Encoder) -> Step:
    return Step(
        "drop-long-rows",
        f"Drop rows of more than {limit:,} tokens",
        stateless(fixes.drop_long_rows(limit, encoding)),
        f"Prompt and completion, separator included, may have {limit:,} tokens.",
    )
