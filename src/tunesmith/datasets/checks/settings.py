"""What is decided before the first row is checked: row format, prompt format, task, token limit.

A sample decides: rows from the start of the source and, for a JSONL file, from all over it. It is
the same for one thread, processes and Ray, and so is the answer. The batches that were read for
the sample are handed on, so that the checks do not read them again; only the few short ranges from
all over a JSONL file are read twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.findings import Severity
from tunesmith.datasets.readers.json_lines import JsonLines
from tunesmith.datasets.row_formats import problems
from tunesmith.datasets.rows import detect_row_format

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from tunesmith.datasets.check_options import CheckOptions
    from tunesmith.datasets.destinations import TokenLimit
    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.readers.batch import Batch, Source
    from tunesmith.datasets.row_formats.dialects import Dialect
    from tunesmith.datasets.rows import RowFormat
    from tunesmith.datasets.task import Task

__all__ = ["CheckSettings", "resolve_settings"]

_DEFAULT_ENCODING: Final = "r50k_base"
_SAMPLE_ROWS: Final = 2_000
_SPOTS: Final = 8
_SPOT_BYTES: Final = 1 << 15
_SPOT_ROWS: Final = 250


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What every check of a data set goes by; the same in every process.

    Attributes:
        row_format: Format that the rows should have.
        max_examples: Locations to keep for each finding; 0 for all.
        prompt_format: Format that prompt/completion rows should follow; None for other rows.
        prompt_format_given: Whether the user named it; otherwise the sample did.
        task: What the rows teach, by the sample; None for other rows.
        token_limit: Tokens that a row may have, or None for no limit.
        encoding: The vocabulary in which tokens are counted.
        count_tokens: Whether to count the tokens of every row.
        near_duplicates: Whether to look for rows that are almost the same.
        severities: Severities of the destination that differ from the rules' own.
        dialect: What the destination asks of rows beyond their format.
        images_per_row: Images that a row may have, or None for no limit.
        rows_with_images: Rows that may have images, or None for no limit.
    """

    row_format: RowFormat
    max_examples: int = 5
    prompt_format: PromptFormat | None = None
    prompt_format_given: bool = False
    task: Task | None = None
    token_limit: int | None = None
    encoding: str = _DEFAULT_ENCODING
    count_tokens: bool = False
    near_duplicates: bool = False
    severities: Mapping[str, Severity] = field(default_factory=dict[str, Severity])
    dialect: Dialect = ""
    images_per_row: int | None = None
    rows_with_images: int | None = None


def resolve_settings(
    source: Source, options: CheckOptions
) -> tuple[CheckSettings, Generator[Batch, None, None]]:
    """Decide what the options leave open, by a sample of the rows.

    Returns:
        The settings, and all batches of the source.
    """
    sample, batches = _read_sample(source)
    row_format = options.row_format or detect_row_format(sample)
    inference = None
    if row_format == "prompt_completion":
        from tunesmith.datasets.format_inference import infer_prompt_format  # noqa: PLC0415

        valid = [row for row in sample if not any(problems(row, row_format))]
        inference = infer_prompt_format(valid) if valid else None
    limit = options.destination.token_limit(row_format, options.model)
    settings = CheckSettings(
        row_format=row_format,
        max_examples=options.max_examples,
        prompt_format=options.prompt_format or (inference.format if inference else None),
        prompt_format_given=options.prompt_format is not None,
        task=inference.task if inference else None,
        token_limit=limit.tokens if limit else None,
        encoding=_encoding(limit, options.model),
        count_tokens=options.count_tokens,
        near_duplicates=options.near_duplicates,
        severities=options.destination.severities,
        dialect=options.destination.dialect,
        images_per_row=options.destination.images_per_row,
        rows_with_images=options.destination.rows_with_images,
    )
    return settings, batches


def _read_sample(source: Source) -> tuple[list[dict[str, Any]], Generator[Batch, None, None]]:
    batches = source.batches()
    read: deque[Batch] = deque()
    rows: list[dict[str, Any]] = []
    for batch in batches:
        read.append(batch)
        rows += islice(batch.values, _SAMPLE_ROWS - len(rows))
        if len(rows) >= _SAMPLE_ROWS:
            if isinstance(source, JsonLines):
                rows += _spot_rows(source)
            break

    def all_batches() -> Generator[Batch, None, None]:
        while read:
            yield read.popleft()
        yield from batches

    return rows, all_batches()


def _spot_rows(source: JsonLines) -> list[dict[str, Any]]:
    """Return rows from evenly spaced positions in a file, which may be sorted by class."""
    rows: list[dict[str, Any]] = []
    for spot in range(1, _SPOTS):
        start = (source.size or 0) * spot // _SPOTS
        for batch in source.batches(start, start + _SPOT_BYTES):
            rows += batch.values[:_SPOT_ROWS]
    return rows


def _encoding(limit: TokenLimit | None, model: str | None) -> str:
    if limit is not None:
        return limit.encoding
    if model is None:
        return _DEFAULT_ENCODING
    from tunesmith.datasets import tokens  # noqa: PLC0415 - as needed

    try:
        return tokens.encoding_for_model(model)
    except tokens.UnknownEncodingError:
        return _DEFAULT_ENCODING
