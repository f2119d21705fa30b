"""`Dataset`: rows with their locations, read from anywhere, checked, planned, split and written."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import write_atomically
from tunesmith.datasets import readers
from tunesmith.datasets.dataset_errors import BrokenRowError, DatasetError
from tunesmith.datasets.readers.columns import Columns
from tunesmith.datasets.rows import Row, detect_row_format

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from tunesmith.datasets.destinations import Destination
    from tunesmith.datasets.plan import Plan
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.readers import Source
    from tunesmith.datasets.report import Report
    from tunesmith.datasets.rows import RowFormat

__all__ = ["Dataset", "read"]


def read(
    source: Any,
    *,
    format: str | None = None,  # noqa: A002 - the word
    prompt: str | None = None,
    completion: str | None = None,
    prompt_format: PromptFormat | None = None,
) -> Dataset:
    """Read a data set.

    Nothing is read until rows are asked for, and rows are streamed where they are iterated.

    Args:
        source: A path, a file object, a pandas or polars frame, an Arrow table, a Hugging Face
            data set, or any iterable of mappings.
        format: "jsonl", "json", "csv", "tsv", "txt", "xlsx" or "parquet"; found out from name
            and content without it.
        prompt: Name of the column or key that holds the prompt.
        completion: Name of the column or key that holds the completion. With either of the two,
            rows keep only `prompt` and `completion`.
        prompt_format: The format in which the rows are written, if it is known.

    Raises:
        UnreadableError: There is no such file, or its format is not known.
    """
    opened = readers.open_source(source, format)
    if prompt is not None or completion is not None:
        opened = Columns(opened, prompt or "prompt", completion or "completion")
    return Dataset(opened, prompt_format=prompt_format)


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
        """Make a data set of rows in memory; a mapping is located by its number, from 1."""
        from tunesmith.datasets.readers.memory import LocatedRows  # noqa: PLC0415 - as needed

        located = [
            row if isinstance(row, Row) else Row(dict(row), number)
            for number, row in enumerate(rows, 1)
        ]
        return cls(LocatedRows(located, name), prompt_format=prompt_format)

    @property
    def name(self) -> str | None:
        """What the source is called."""
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
                if fault.id not in _HARMLESS:
                    location = fault.location
                    raise BrokenRowError(
                        f"{name or 'the data'}: {location}: {location.message}.",
                        location.line,
                        location.byte_offset,
                    )
            yield from batch.rows(name)

    def readable_rows(self) -> Iterator[Row]:
        """Yield the rows that can be read, leaving out broken lines."""
        for batch in self.source.batches():
            yield from batch.rows(self.source.name)

    @cached_property
    def rows(self) -> list[Row]:
        """All rows, in memory; raises what iterating does."""
        return list(iter(self))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Dataset({self.source.name or 'in memory'!r}, format={self.source.format!r})"

    @cached_property
    def shape(self) -> RowFormat:
        """Shape of most rows at the start."""
        batch = next(iter(self.source.batches()), None)
        return detect_row_format(batch.values if batch else [])

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
            prompt_format: Format to hold the rows against; the data set's own, or the one that
                most rows keep, without it.
            validation: Validation data, checked for rows that are also here.
            shape: Shape that the rows should have; found out without it.
            model: Model to be trained; decides token limit and encoding where known.
            max_examples: Locations to keep for each finding; 0 for all.
            count_tokens: Whether to count the tokens of every row.
            near_duplicates: Whether to look for rows that are almost the same.

        Raises:
            DatasetError: The profile is not known.
        """
        from tunesmith.datasets.check import check_source  # noqa: PLC0415 - as needed
        from tunesmith.datasets.check_options import CheckOptions  # noqa: PLC0415

        options = CheckOptions(
            destination=profile,
            row_format=shape,
            prompt_format=prompt_format or self.prompt_format,
            model=model,
            max_examples=max_examples,
            count_tokens=count_tokens,
            near_duplicates=near_duplicates,
        )
        report = check_source(self.source, options)
        if validation is not None:
            from tunesmith.datasets.overlap import overlap_findings  # noqa: PLC0415

            report.findings += overlap_findings(
                self.readable_rows(), validation.readable_rows(), max_examples
            )
            report.sort()
        return report

    def plan(self, prompt_format: PromptFormat | None = None, **options: Any) -> Plan:
        """Propose fixes; see `tunesmith.datasets.plan`."""
        from tunesmith.datasets.plan import make_plan  # noqa: PLC0415 - as needed

        return make_plan(self, prompt_format, **options)

    def split(self, validation: float = 0.2, **options: Any) -> tuple[Dataset, Dataset]:
        """Split into training and validation data; see `tunesmith.datasets.split`."""
        from tunesmith.datasets.split import split  # noqa: PLC0415 - as needed

        training, held_out = split(self.rows, validation, **options)
        return (
            Dataset.from_rows(training, prompt_format=self.prompt_format, name=self.name),
            Dataset.from_rows(held_out, prompt_format=self.prompt_format, name=self.name),
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the rows as JSONL, whole or not at all.

        If the data set knows its prompt format, it is saved beside: `train.jsonl` has
        `train.format.json`.

        Raises:
            DatasetError: There is no row to write.
            BrokenRowError: A line of the source cannot be read.
        """
        target = Path(path)
        count = 0
        with write_atomically(target) as stream:
            for row in self:
                stream.write(_to_line(row))
                count += 1
            if not count:
                raise DatasetError(f"There is no row to write to {str(target)!r}.")
        if self.prompt_format is not None:
            from tunesmith.datasets.prompt_format import format_path  # noqa: PLC0415

            self.prompt_format.save(format_path(target))
        return target


_HARMLESS = frozenset({"blank-line", "control-character", "encoding-guessed", "sheets-ignored"})


def _to_line(row: Row) -> bytes:
    try:
        return json.dumps(row.value, ensure_ascii=False).encode("utf-8") + b"\n"
    except (UnicodeEncodeError, TypeError, ValueError) as error:
        raise BrokenRowError(
            f"line {row.line} cannot be written as JSON: {error}.", row.line, row.byte_offset
        ) from None
