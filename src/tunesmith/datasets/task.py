"""The kind of task that a prompt/completion data set teaches."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from .format_markers import without_separators, without_stops

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .pairs import Pair

__all__ = ["Task", "infer_task"]

Task: TypeAlias = Literal["classification", "conditional generation", "open-ended generation"]

# Enough to distinguish labels from texts; more rows would only add memory.
_SAMPLE_ROWS: Final = 100_000
_ROWS_PER_CLASS: Final = 3
_LONGEST_LABEL: Final = 120


def infer_task(pairs: Iterable[Pair], separator: str = "", stop: str = "") -> Task:
    """Return the kind of task that the rows suggest, whether they are in their format or not.

    Rows without prompts are open-ended generation. Where each distinct completion is shared by
    more than three distinct rows on average, and is short, the completions are class labels.

    Args:
        pairs: The rows.
        separator: What ends prompts besides the separators that are known anyway.
        stop: What ends completions besides the stop sequences that are known anyway.
    """
    prompts_seen = False
    rows: set[int] = set()
    labels: set[str] = set()
    for prompt, completion, _ in islice(pairs, _SAMPLE_ROWS):
        prompts_seen = prompts_seen or bool(prompt)
        label = without_stops(completion, stop).strip()
        rows.add(hash((without_separators(prompt, separator).strip(), label)))
        labels.add(label)
    if not prompts_seen:
        return "open-ended generation"
    shared = len(labels) * _ROWS_PER_CLASS < len(rows)
    if shared and all(len(label) <= _LONGEST_LABEL for label in labels):
        return "classification"
    return "conditional generation"
