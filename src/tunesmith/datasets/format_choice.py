"""Chooses a prompt format for data that has none yet: markers that occur nowhere in the texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .pairs import pairs
from .prompt_format import PromptFormat
from .task import Task, infer_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .pairs import AnyRow
    from .tokens import Encoder

__all__ = ["SEPARATORS", "STOPS", "choose_prompt_format"]

SEPARATORS: Final = (
    "\n\n###\n\n",
    "\n\n===\n\n",
    "\n\n---\n\n",
    "\n\n===>\n\n",
    "\n\n--->\n\n",
    "\n\n### =>\n\n",
)
"""Candidates in order; the first that occurs nowhere is chosen."""

STOPS: Final = ("\n", " END", "\n###\n", "***", "+++", "&&&", "$$$", "@@@", "%%%", " [END]")
"""Candidates in order; the first that occurs nowhere is chosen."""


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
            iterator is first read into memory.
        task: The task; inferred by default.
        encoding: The encoding in which classes are counted; default "r50k_base".
    """
    if isinstance(rows, Iterator):
        rows = list(rows)
    task = task or infer_task(pairs(rows))
    separators, stops = list(SEPARATORS), list(STOPS)
    labels: set[str] = set()
    for prompt, completion, _ in pairs(rows):
        text = completion.strip()
        separators = [marker for marker in separators if _can_mark(marker, prompt, text)]
        stops = [marker for marker in stops if _can_mark(marker, f" {text}")]
        if task == "classification":
            labels.add(text)
    separator = "" if task == "open-ended generation" else next(iter(separators), "")
    if not separator and task != "open-ended generation":
        separator = _numbered_marker(
            lambda marker: (_can_mark(marker, *pair[:2]) for pair in pairs(rows))
        )
    without_stop = PromptFormat(separator, " ", "")
    labels.discard("")
    if labels and set(without_stop.class_tokens(labels, encoding).values()) == {1}:
        return without_stop
    stop = next(iter(stops), "") or _numbered_marker(
        lambda marker: (_can_mark(marker, f" {pair.completion.strip()}") for pair in pairs(rows))
    )
    return PromptFormat(separator, " ", stop)


def _can_mark(marker: str, *texts: str) -> bool:
    """Return whether no text contains the marker or overlaps the one written after it."""
    overlap = len(marker) - 1
    for text in texts:
        tail = text[-overlap:] if overlap else ""
        if marker in text or (tail + marker).find(marker) < len(tail):
            return False
    return True


def _numbered_marker(can_mark: Callable[[str], Iterable[bool]]) -> str:
    """Return a marker that occurs nowhere, for data in which all the candidates occur."""
    number = 1
    while not all(can_mark(f"\n\n### {number} ###\n\n")):
        number += 1
    return f"\n\n### {number} ###\n\n"
