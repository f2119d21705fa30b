"""What is settled from a sample before the first row is checked: shape, task, prompt format.

The sample is the same for every way of running a check, so that the answer is, too.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.row_formats import problems
from tunesmith.datasets.rows import detect_row_format

if TYPE_CHECKING:
    from tunesmith.datasets.format_inference import Inference
    from tunesmith.datasets.readers.batch import Source
    from tunesmith.datasets.rows import RowFormat

__all__ = ["infer", "row_format_of_sample", "sample_of", "sound_pairs"]

_ROWS: Final = 2_000
_SPOTS: Final = 8
_SPOT_ROWS: Final = 250


def sample_of(source: Source) -> list[dict[str, Any]]:
    """Return rows from the start of a source and, where it is a JSONL file, from all over it."""
    start: list[dict[str, Any]] = []
    for batch in source.batches():
        start += islice(batch.values, _ROWS - len(start))
        if len(start) >= _ROWS:
            break
    else:
        return start
    return start + _spots(source)


def _spots(source: Source) -> list[dict[str, Any]]:
    from tunesmith.datasets.readers.json_lines import JsonLines  # noqa: PLC0415 - as needed

    if not isinstance(source, JsonLines) or not source.size:
        return []
    rows: list[dict[str, Any]] = []
    for spot in range(1, _SPOTS):
        offset = source.size * spot // _SPOTS
        for batch in source.batches(offset, offset + (1 << 15)):
            rows += batch.values[:_SPOT_ROWS]
    return rows


def row_format_of_sample(sample: list[dict[str, Any]]) -> RowFormat:
    """Return the shape of most rows."""
    return detect_row_format(sample)


def sound_pairs(sample: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the prompt/completion rows that keep the rules of their shape."""
    return [row for row in sample if not any(problems(row, "prompt_completion"))]


def infer(sample: list[dict[str, Any]]) -> Inference | None:
    """Find format and task of a sample of prompt/completion rows, or None if it has none."""
    from tunesmith.datasets.format_inference import infer_prompt_format  # noqa: PLC0415

    rows = sound_pairs(sample)
    return infer_prompt_format(rows) if rows else None
