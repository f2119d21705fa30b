r"""A plan of fixes: what would be changed, how often and how, before anything is.

    plan = make_plan(dataset)
    print(plan.diff())
    plan.disable("drop-long-rows")
    fixed = plan.apply()

The plan reads the data as often as it must and holds none of it, except what it shows. Applying
it twice changes nothing more, and every row keeps the line it came from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from tunesmith.datasets import plan_steps
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.format_inference import (
    Inference,
    choose_prompt_format,
    infer_prompt_format,
)
from tunesmith.datasets.pairs import as_rows, pairs
from tunesmith.datasets.plan_steps import shorten
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.readers import Batch, ListLocations
from tunesmith.datasets.rows import Row, detect_row_format
from tunesmith.datasets.task import Task, infer_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tunesmith.datasets.fixes import Step, Transform, Value
    from tunesmith.datasets.pairs import AnyRow
    from tunesmith.datasets.tokens import Encoder

__all__ = ["Fix", "Plan", "Sample", "make_plan"]

TOKEN_LIMIT: Final = 2048
_SAMPLES: Final = 3
_ROWS_FOR_SHAPE: Final = 1_000
_BATCH_ROWS: Final = 1024


class Sample(NamedTuple):
    """One row before and after a fix.

    Attributes:
        before: The row.
        after: The row as it becomes, or None where it is dropped.
        line: Where it stands.
    """

    before: dict[str, Any]
    after: dict[str, Any] | None
    line: int


@dataclass(slots=True)
class Fix:
    """One proposed change.

    Attributes:
        id: Stable name, for `Plan.disable`.
        description: What it does.
        evidence: Why it is proposed.
        count: Rows that it changes or drops.
        samples: The first of them.
        enabled: Whether it will be applied.
        necessary: Whether the rows are unusable without it.
    """

    id: str
    description: str
    evidence: str = ""
    count: int = 0
    samples: list[Sample] = field(default_factory=list[Sample])
    enabled: bool = True
    necessary: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fix as plain JSON data."""
        return {
            "id": self.id,
            "description": self.description,
            "evidence": self.evidence,
            "count": self.count,
            "enabled": self.enabled,
            "necessary": self.necessary,
            "samples": [sample._asdict() for sample in self.samples],
        }


class Plan:
    """Fixes for a data set; see the module.

    Attributes:
        format: The prompt format that the rows will have; None for rows of other shapes.
        inference: What the rows said about their format; None where it was given.
        task: The task that the rows look like; None for rows of other shapes.
    """

    def __init__(
        self,
        dataset: Any,
        steps: Sequence[Step],
        *,
        prompt_format: PromptFormat | None = None,
        inference: Inference | None = None,
        task: Task | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.format = prompt_format
        self.inference = inference
        self.task = task
        self._dataset = dataset
        self._steps = list(steps)
        self._options = dict(options or {})
        self._fixes: list[Fix] | None = None

    @property
    def fixes(self) -> list[Fix]:
        """The fixes that concern at least one row, in the order in which they are applied.

        Each is counted on the rows as the enabled fixes before it leave them.
        """
        if self._fixes is None:
            self._fixes = self._preview()
        return [fix for fix in self._fixes if fix.count]

    @property
    def name(self) -> str | None:
        """What the data is called, if it has a name."""
        name: str | None = getattr(_source_of(self._dataset), "name", None)
        return name

    def enable(self, *ids: str) -> Self:
        """Apply these fixes; returns the plan."""
        return self._set(ids, enabled=True)

    def disable(self, *ids: str) -> Self:
        """Do not apply these fixes; returns the plan.

        Raises:
            DatasetError: There is no such fix, or the rows would be unusable without it.
        """
        return self._set(ids, enabled=False)

    def edit(self, **options: Any) -> Plan:
        """Return the plan made anew with other options of `make_plan`; decisions are kept.

        Args:
            options: `prompt_format`, `task`, `token_limit`, `encoding`.
        """
        plan = make_plan(self._dataset, **{**self._options, **options})
        decided = {step.id: step.enabled for step in self._steps}
        for step in plan._steps:  # noqa: SLF001 - one of our own
            step.enabled = decided.get(step.id, step.enabled)
        return plan

    def _set(self, ids: Iterable[str], *, enabled: bool) -> Self:
        steps = {step.id: step for step in self._steps}
        for identifier in ids:
            if identifier not in steps:
                raise DatasetError(
                    f"The plan has no fix {identifier!r}; it has {', '.join(steps)}."
                )
            if steps[identifier].necessary and not enabled:
                raise DatasetError(f"Without the fix {identifier!r} the rows cannot be used.")
            steps[identifier].enabled = enabled
        self._fixes = None
        return self

    def rows(self) -> Iterator[Row]:
        """Yield the fixed rows, each with the place it had."""
        running = [step.start() for step in self._steps if step.enabled]
        for row in _rows(self._dataset):
            value = _run(running, row.value)
            if value is not None:
                yield Row(value, row.line, row.byte_offset, row.file)

    def apply(self) -> Any:
        """Return the fixed data as a `Dataset` that carries the prompt format.

        The fixes run whenever it is read; nothing is written.
        """
        from tunesmith.datasets import Dataset  # noqa: PLC0415 - it imports this module

        return Dataset(PlannedRows(self), prompt_format=self.format)

    def diff(self) -> str:
        """Return every fix with its count, its evidence and samples, for people."""
        return "\n\n".join(map(_describe, self.fixes)) or "Nothing needs to be changed."

    def to_json(self) -> str:
        """Return the plan as JSON: format, task, and each fix with its samples."""
        data = {
            "version": 1,
            "format": self.format.to_dict() if self.format else None,
            "task": self.task,
            "fixes": [fix.to_dict() for fix in self.fixes],
        }
        return json.dumps(data, indent=2)

    def _preview(self) -> list[Fix]:
        found = [
            Fix(
                step.id,
                step.description,
                step.evidence,
                enabled=step.enabled,
                necessary=step.necessary,
            )
            for step in self._steps
        ]
        running = [(fix, step.start()) for fix, step in zip(found, self._steps, strict=True)]
        unreadable = Fix(
            "drop-unreadable-lines",
            "Leave out lines that cannot be read",
            "They hold no row that could be repaired here.",
            necessary=True,
        )
        for row in _rows(self._dataset, unreadable):
            value: Value = row.value
            for fix, transform in running:
                after = transform(value)
                if after is value:
                    continue
                fix.count += 1
                if len(fix.samples) < _SAMPLES:
                    fix.samples.append(Sample(value, after, row.line))
                if not fix.enabled:
                    continue
                if after is None:
                    break
                value = after
        return [unreadable, *found]


class PlannedRows:
    """A source of rows, as readers are, that fixes another source's rows on the way.

    What could not be read there is left out here.
    """

    format = "rows"
    size: int | None = None

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.name: str | None = plan.name

    def batches(self) -> Iterator[Batch]:
        """Yield the fixed rows in batches; their lines are those of the original."""
        values: list[Value] = []
        locations = ListLocations()
        for row in self._plan.rows():
            values.append(row.value)
            locations.lines.append(row.line)
            if len(values) == _BATCH_ROWS:
                yield Batch(values, locations, len(values))
                values, locations = [], ListLocations()
        if values:
            yield Batch(values, locations, len(values))


def make_plan(
    dataset: Any,
    prompt_format: PromptFormat | None = None,
    *,
    task: Task | None = None,
    token_limit: int = TOKEN_LIMIT,
    encoding: str | Encoder = "r50k_base",
) -> Plan:
    """Find the fixes that a data set needs.

    Args:
        dataset: A `Dataset`, or rows or mappings that can be iterated again and again.
        prompt_format: The format that the rows shall have; default: the one that most rows
            already have, completed with marks that occur nowhere in the data.
        task: What the rows teach; default: what they look like.
        token_limit: Most tokens of a row, prompt and completion together.
        encoding: Whose tokens; see `tokens.encoder`.

    Raises:
        DatasetError: No column could be the prompt or the completion.
    """
    options = {
        "prompt_format": prompt_format,
        "task": task,
        "token_limit": token_limit,
        "encoding": encoding,
    }
    start = islice(_rows(dataset), _ROWS_FOR_SHAPE)
    if detect_row_format(row.value for row in start) != "prompt_completion":
        return Plan(dataset, [plan_steps.duplicates()], options=options)
    cleaning = plan_steps.cleaning(_rows(dataset))
    draft = Plan(dataset, [*cleaning, plan_steps.dropping(PromptFormat("", "", ""))])
    rows = _Again(draft)
    inference = None if prompt_format else infer_prompt_format(rows)
    task = task or (inference.task if inference else infer_task(pairs(rows)))
    if inference is not None:
        found = chosen = inference.format
        if not (found.separator and found.stop):
            chosen = choose_prompt_format(rows, task, encoding)
        prompt_format = PromptFormat(
            found.separator or chosen.separator, " ", found.stop or chosen.stop
        )
    form = prompt_format or PromptFormat()
    steps = [
        *cleaning,
        *plan_steps.proposals(rows, form, task),
        *_numbering(rows, form, task, encoding),
        *plan_steps.room_for_marks(form),
        plan_steps.dropping(form),
        *plan_steps.writing(form, inference),
        plan_steps.duplicates(),
        plan_steps.limiting(token_limit, encoding),
    ]
    return Plan(dataset, steps, prompt_format=form, inference=inference, task=task, options=options)


def _numbering(
    rows: Iterable[Row], form: PromptFormat, task: Task, encoding: str | Encoder
) -> Iterator[Step]:
    if task == "classification":
        labels = {form.bare_completion(pair.completion).strip() for pair in pairs(rows)}
        yield from plan_steps.numbering(labels - {""}, form, encoding)


def _run(running: Sequence[Transform], value: Value) -> Value | None:
    for transform in running:
        after = transform(value)
        if after is None:
            return None
        value = after
    return value


class _Again:
    """The rows of a plan as an iterable that starts anew each time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[Row]:
        return self._plan.rows()


def _source_of(dataset: Any) -> Any:
    return getattr(dataset, "source", None)


def _rows(dataset: Any, unreadable: Fix | None = None) -> Iterator[Row]:
    """Yield the rows; lines that hold none are skipped, and counted if there is where to."""
    source = _source_of(dataset)
    if source is None:
        rows: Iterable[AnyRow] = dataset
        yield from as_rows(rows)
        return
    for batch in source.batches():
        if unreadable is not None and batch.faults:
            _count_unreadable(batch, unreadable)
        yield from batch.rows(source.name)


def _count_unreadable(batch: Batch, fix: Fix) -> None:
    read = {batch.locations.line(index) for index in range(len(batch.values))}
    for fault in batch.faults:
        place = fault.location
        if fault.id == "blank-line" or place.line in read:
            continue
        fix.count += 1
        if len(fix.samples) < _SAMPLES:
            fix.samples.append(Sample({"": place.excerpt or place.message}, None, place.line))


def _describe(fix: Fix) -> str:
    state = "" if fix.enabled else " (not applied unless enabled)"
    rows = "row" if fix.count == 1 else "rows"
    lines = [f"{fix.id}: {fix.description}: {fix.count:,} {rows}{state}"]
    if fix.evidence:
        lines.append(f"  {fix.evidence}")
    for before, after, line in fix.samples:
        lines.append(f"  line {line}")
        names = [name for name in before if after is None or before[name] != after.get(name)]
        lines += [f"  - {name}: {shorten(before[name])}" for name in names]
        if after is None:
            lines.append("  + (dropped)")
            continue
        names = [name for name in after if after[name] != before.get(name)]
        lines += [f"  + {name}: {shorten(after[name])}" for name in names]
    return "\n".join(lines)
