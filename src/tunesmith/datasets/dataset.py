"""`Dataset`: the rows of a source, checked, fixed, split and written; and its `Plan` of fixes.

A `Dataset` makes a `Plan`, and a plan applied is a `Dataset` again, so both are in this module.
How rows are read, checked, fixed and divided is not known here: `readers`, `check`, `plan_steps`
and `split` do that.
"""

from __future__ import annotations

import codecs
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tunesmith._lazy import set_public_module
from tunesmith.atomic import write_atomically

from . import readers
from .check_options import CheckOptions
from .dataset_errors import BrokenRowError, DatasetError
from .near_duplicates import DEFAULT_THRESHOLD
from .plan_execution import FixedRows, json_line, read_rows
from .planned_fixes import PlannedFixes
from .readers.columns import Columns
from .readers.memory import LocatedRows
from .readers.plain_values import plain
from .rows import Row, detect_row_format
from .training_defaults import DEFAULT_TOKEN_LIMIT

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from .destinations import Destination
    from .plan_steps import PlanOptions
    from .prompt_format import PromptFormat
    from .readers import Source
    from .recognition import DataFormat, FormatName
    from .report import Report
    from .rows import RowFormat
    from .task import Task
    from .tokens import Encoder

__all__ = ["Dataset", "Plan", "Split", "read"]

_HARMLESS_FAULTS: Final = frozenset(
    {
        "blank-line",
        "bom-inside",
        "cell-value",
        "column-unnamed",
        "columns-not-read",
        "control-character",
        "conversion-loss",
        "encoding-guessed",
        "encoding-replaced",
        "sheets-ignored",
    }
)


def read(
    source: Any,
    *,
    format: str | None = None,  # noqa: A002 - the word
    encoding: str | None = None,
    sheet: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    template: Mapping[str, str] | None = None,
    to: FormatName | None = None,
    prompt_format: PromptFormat | None = None,
) -> Dataset:
    """Read a data set.

    Nothing is read until rows are asked for, and rows are streamed where they are iterated.

    Args:
        source: A path, a file object, a pandas or polars frame, an Arrow table, a Hugging Face
            data set, or any iterable of mappings.
        format: "jsonl", "json", "csv", "tsv", "txt", "xlsx" or "parquet"; detected from name
            and content by default. A name that ends in ".gz" is unpacked first.
        encoding: Encoding of a text file, such as "gbk"; default: UTF-8, or UTF-16 or UTF-32
            where the bytes show it.
        sheet: Name of the sheet of a workbook; default: the first that is not hidden.
        prompt: Name of the column or key that holds the prompt.
        completion: Name of the column or key that holds the completion. With either of the two,
            rows keep only `prompt` and `completion`, and `check` tells what else held text.
        template: Texts of the rows with columns in braces, for "user", "assistant" and perhaps
            "system", or for "prompt" and "completion":
            `{"user": "{question} {context}", "assistant": "{answer}"}`.
        to: Format into which the rows are converted, such as "chat"; see `Dataset.convert`.
        prompt_format: The format in which the rows are written, if it is known.

    Raises:
        UnreadableError: There is no such file, or its format or encoding is not known.
        DatasetError: The template has a fault, or the rows cannot be converted to the format.
    """
    opened = readers.open_source(source, format, encoding=encoding, sheet=sheet)
    if prompt is not None or completion is not None:
        if template is not None:
            raise DatasetError("Give either the columns prompt and completion, or a template.")
        opened = Columns(opened, prompt or "prompt", completion or "completion")
    if template is not None:
        from .conversion.template import templated  # noqa: PLC0415 - as needed

        opened = templated(opened, template)
    dataset = Dataset(opened, prompt_format=prompt_format)
    return dataset if to is None else dataset.convert(to)


class Dataset:
    """Rows of one source.

    Attributes:
        source: Where the rows come from.
        prompt_format: The format in which they are written, if it is known.
    """

    def __init__(self, source: Source, *, prompt_format: PromptFormat | None = None) -> None:
        self.source = source
        self.prompt_format = prompt_format

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Row | Mapping[str, Any]],
        *,
        prompt_format: PromptFormat | None = None,
        name: str | None = None,
    ) -> Dataset:
        """Make a data set from rows in memory.

        Args:
            rows: Rows, which keep their locations, or mappings, which are numbered from 1.
            prompt_format: The format in which they are written, if it is known.
            name: What to call the data set; default: the file of the first row.
        """
        located = [
            row if isinstance(row, Row) else Row(plain(row), number)
            for number, row in enumerate(rows, 1)
        ]
        return cls(LocatedRows(located, name), prompt_format=prompt_format)

    @property
    def name(self) -> str | None:
        """Name of the source, if it has one."""
        return self.source.name

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows, one after another.

        Raises:
            BrokenRowError: A line cannot be read; `check` reports all such lines, and
                `readable_rows` leaves them out.
        """
        name = self.source.name
        for batch in self.source.batches():
            for fault in batch.faults:
                if fault.id not in _HARMLESS_FAULTS:
                    location = fault.location
                    raise BrokenRowError(
                        f"{name or 'the data'}: {location}: {location.message}.",
                        location.line,
                        location.byte_offset,
                    )
            yield from batch.rows(name)

    def readable_rows(self) -> Iterator[Row]:
        """Yield the rows that can be read, leaving out broken lines."""
        return read_rows(self.source)

    @cached_property
    def rows(self) -> list[Row]:
        """All rows, in memory; raises what iterating raises."""
        return list(iter(self))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """Return name, file format, row format and size; nothing large is read."""
        parts = [repr(self.name) if self.name else "in memory", f"format={self.source.format!r}"]
        try:
            parts.append(f"shape={self.shape!r}")
        except (DatasetError, OSError):
            parts.append("unreadable")
        # Rows of a file are counted only where they have been read already.
        rows: object = self.__dict__.get("rows", getattr(self.source, "rows", None))
        if isinstance(rows, list):
            parts.append(f"rows={len(rows):,}")
        elif self.source.size is not None:
            parts.append(f"bytes={self.source.size:,}")
        return f"Dataset({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """Return the first rows for a notebook."""
        from .notebook import dataset_html  # noqa: PLC0415 - as needed

        return dataset_html(self)

    def first_rows(self, count: int = 5) -> list[dict[str, Any]]:
        """Return the values of the first rows; of a file only its start is read.

        Args:
            count: How many rows, at most.

        Raises:
            UnreadableError: The source cannot be read.
        """
        return self._start[:count]

    @cached_property
    def shape(self) -> RowFormat:
        """Row format of most rows at the start, or the one to which they can be converted."""
        return detect_row_format(self._start)

    @cached_property
    def _start(self) -> list[dict[str, Any]]:
        batch = next(iter(self.source.batches()), None)
        return batch.values if batch else []

    @cached_property
    def recognised(self) -> DataFormat | None:
        """Format of most rows at the start; None if it is not known."""
        from .recognition import recognise_rows  # noqa: PLC0415 - as needed

        return recognise_rows(self._start)

    @property
    def data_format(self) -> FormatName | None:
        """Name of the format of most rows, a key of `DATA_FORMATS`; None if it is not known."""
        return self.recognised.name if self.recognised else None

    def convert(self, to: FormatName, *, source: FormatName | None = None) -> Dataset:
        """Return the rows in another format; they are converted as they are read.

        Rows that have the format stay as they are. A row that cannot be converted raises
        `BrokenRowError` when it is iterated over, and is the error `row-not-converted` in a
        check; what a conversion leaves out of a row is the warning `conversion-loss`.

        Args:
            to: The format, a key of `DATA_FORMATS`, such as "chat", "alpaca" or "sharegpt".
            source: The format of the rows; default: each row is recognised.

        Raises:
            DatasetError: There is no such format, or it cannot be converted.
        """
        from .conversion import row_converter  # noqa: PLC0415 - as needed
        from .conversion.source import ConvertedRows  # noqa: PLC0415

        converter = row_converter(to, source, self.prompt_format)
        prompt_format = self.prompt_format if to == "prompt_completion" else None
        return Dataset(ConvertedRows(self.source, converter), prompt_format=prompt_format)

    def check(
        self,
        profile: str | Destination = "engine",
        *,
        prompt_format: PromptFormat | None = None,
        validation: Dataset | None = None,
        shape: RowFormat | None = None,
        model: str | None = None,
        max_examples: int = 5,
        count_tokens: bool = False,
        near_duplicates: bool = False,
    ) -> Report:
        """Check the rows.

        Args:
            profile: Where the data goes: a name from `PROFILES`, or a profile.
            prompt_format: Format that the rows should have; default: that of the data set, or
                else the one that most rows have.
            validation: Validation data, checked for rows that are also here.
            shape: Row format that the rows should have; detected by default.
            model: Model to be trained; decides token limit and encoding where known.
            max_examples: Locations to keep for each finding; 0 for all.
            count_tokens: Whether to count the tokens of every row.
            near_duplicates: Whether to look for rows that are almost the same.

        Raises:
            DatasetError: The profile is not known.
        """
        from .check import check_source  # noqa: PLC0415 - as needed
        from .destinations import destination_named  # noqa: PLC0415

        options = CheckOptions(
            destination=destination_named(profile),
            row_format=shape,
            prompt_format=prompt_format or self.prompt_format,
            model=model,
            max_examples=max_examples,
            count_tokens=count_tokens,
            near_duplicates=near_duplicates,
        )
        report = check_source(self.source, options)
        if validation is not None:
            from .overlap import overlap_findings  # noqa: PLC0415 - as needed

            report.findings += overlap_findings(
                self.readable_rows(), validation.readable_rows(), max_examples
            )
            report.sort()
        return report

    def plan(
        self,
        prompt_format: PromptFormat | None = None,
        *,
        task: Task | None = None,
        token_limit: int = DEFAULT_TOKEN_LIMIT,
        encoding: str | Encoder = "r50k_base",
    ) -> Plan:
        """Propose fixes for the rows; nothing is changed yet.

        Args:
            prompt_format: Format that the rows will have; default: that of the data set, or else
                the one that most rows already have, completed with markers that occur nowhere
                in the data.
            task: What the rows are for: "classification", "conditional generation" or
                "open-ended generation"; inferred by default.
            token_limit: Most tokens of a row, prompt and completion together.
            encoding: Encoding in which tokens are counted: its name, that of a hosted model, or
                an encoder from `tokens`.

        Raises:
            DatasetError: No column could be the prompt or the completion.
            UnreadableError: The source cannot be read at all.
        """
        from .plan_steps import PlanOptions  # noqa: PLC0415 - as needed

        return Plan(
            self, PlanOptions(prompt_format or self.prompt_format, task, token_limit, encoding)
        )

    def split(
        self,
        validation: float = 0.2,
        *,
        stratify: bool | None = None,
        near_duplicates: bool = True,
        threshold: float = DEFAULT_THRESHOLD,
        seed: int = 0,
    ) -> Split:
        """Split the rows into training and validation data that share nothing.

        Args:
            validation: Share of the rows to hold out, between 0 and 1, or their number, from 1.
            stratify: Whether classes keep their shares; default: if the rows look like
                classification.
            near_duplicates: Whether rows whose prompts are almost the same stay on one side;
                exact duplicates always do.
            threshold: Jaccard similarity from which prompts count as almost the same.
            seed: Another number gives another division, which is just as reproducible.

        Raises:
            DatasetError: `validation` is out of range.
            BrokenRowError: A line of the source cannot be read.
        """
        from .split import split  # noqa: PLC0415 - as needed

        training, held_out = split(
            self.rows,
            validation,
            stratify=stratify,
            near_duplicates=near_duplicates,
            threshold=threshold,
            seed=seed,
        )
        return Split(
            Dataset.from_rows(training, prompt_format=self.prompt_format, name=self.name),
            Dataset.from_rows(held_out, prompt_format=self.prompt_format, name=self.name),
        )

    def write(self, path: str | os.PathLike[str], *, byte_order_mark: bool = False) -> Path:
        """Write the rows as JSONL, whole or not at all.

        If the data set knows its prompt format, it is saved beside: `train.jsonl` has
        `train.format.json`.

        Args:
            path: The file.
            byte_order_mark: Whether to start with one, as Azure requires; the others do without.

        Raises:
            DatasetError: There is no row to write.
            BrokenRowError: A line of the source cannot be read.
        """
        target = Path(path)
        count = 0
        with write_atomically(target) as stream:
            if byte_order_mark:
                stream.write(codecs.BOM_UTF8)
            for row in self:
                stream.write(json_line(row))
                count += 1
            if not count:
                raise DatasetError(f"There is no row to write to {str(target)!r}.")
        if self.prompt_format is not None:
            from .prompt_format import format_path  # noqa: PLC0415 - as needed

            self.prompt_format.save(format_path(target))
        return target


class Split(NamedTuple):
    """Training and validation data that share no row.

    Attributes:
        training: The rows to train on.
        validation: The rows held out.
    """

    training: Dataset
    validation: Dataset

    def __repr__(self) -> str:
        """Return the number of rows on both sides."""
        name = f"{self.training.name!r}, " if self.training.name else ""
        return f"Split({name}training={len(self.training):,}, validation={len(self.validation):,})"

    def _repr_html_(self) -> str:
        """Return the first rows of both sides for a notebook."""
        from .notebook import split_html  # noqa: PLC0415 - as needed

        return split_html(self.training, self.validation)


class Plan(PlannedFixes):
    """The fixes that a data set needs: what would be changed, how often and how.

        plan = dataset.plan()
        print(plan.diff())
        plan.disable("drop-long-rows")
        fixed = plan.apply()

    A plan applied twice changes nothing more, and every row keeps the line it came from.

    Attributes:
        format: The prompt format that the rows will have; None if they are not
            prompt/completion rows.
        inference: The evidence for the format; None where it was given.
        task: What the rows are for; None if they are not prompt/completion rows.

    Args:
        dataset: The data set.
        options: What was asked of the plan.
    """

    def __init__(self, dataset: Dataset, options: PlanOptions) -> None:
        super().__init__(dataset.source, options)
        self._dataset = dataset

    def _repr_html_(self) -> str:
        """Return the fixes for a notebook."""
        from .notebook import plan_html  # noqa: PLC0415 - as needed

        return plan_html(self)

    def edit(
        self,
        *,
        prompt_format: PromptFormat | None = None,
        task: Task | None = None,
        token_limit: int | None = None,
        encoding: str | Encoder | None = None,
    ) -> Plan:
        """Return a new plan with other options, in which the same fixes are enabled.

        Args:
            prompt_format: See `Dataset.plan`; default: as before.
            task: See `Dataset.plan`; default: as before.
            token_limit: See `Dataset.plan`; default: as before.
            encoding: See `Dataset.plan`; default: as before.

        Raises:
            DatasetError: No column could be the prompt or the completion.
        """
        given = {
            "prompt_format": prompt_format,
            "task": task,
            "token_limit": token_limit,
            "encoding": encoding,
        }
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        plan = Plan(self._dataset, replace(self._options, **changes))
        enabled = {step.id: step.enabled for step in self._steps}
        for step in plan._steps:
            step.enabled = enabled.get(step.id, step.enabled)
        return plan

    def apply(self) -> Dataset:
        """Return the fixed data set, which carries the prompt format.

        The fixes run whenever it is read; nothing is written.
        """
        fixed = FixedRows(self._source, self._steps)
        return Dataset(fixed, prompt_format=self.format)


set_public_module(globals(), "tunesmith.datasets")
