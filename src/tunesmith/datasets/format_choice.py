"""Chooses a prompt format for data that has none yet: markers that occur nowhere in the texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from .class_numbers import beginnings
from .format_markers import (
    SEPARATORS,
    STOPS,
    head,
    overlaps,
    without_separators,
    without_stops,
)
from .pairs import pairs
from .prompt_format import PromptFormat
from .task import Task, infer_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .pairs import AnyRow, Pair
    from .tokens import Encoder

__all__ = ["choose_prompt_format"]

_BATCH_ROWS: Final = 1024


def choose_prompt_format(
    rows: Iterable[AnyRow],
    task: Task | None = None,
    encoding: str | Encoder | None = None,
    *,
    found: PromptFormat | None = None,
) -> PromptFormat:
    """Choose a format for rows that are not yet formatted.

    The separator occurs in no prompt and no completion, the stop sequence in no completion.
    Classes that are all single tokens need no stop sequence: `max_tokens=1` ends them. Numbers
    get one, unless another encoding than the default is named: many tokenizers write each digit
    as a token, and " 1" begins " 10".

    Args:
        rows: Rows or mappings with `prompt` and `completion`. Read more than once, so an
            iterator is first read into memory.
        task: The task; inferred by default.
        encoding: The encoding in which classes are counted; default "r50k_base".
        found: What most rows have already. Only its missing parts are chosen, no text becomes
            both separator and stop sequence, and the known markers at the end of a text, which
            a plan replaces, do not count as occurrences.
    """
    if isinstance(rows, Iterator):
        rows = list(rows)
    task = task or infer_task(pairs(rows))
    has = found or PromptFormat("", "", "")
    separators = [marker for marker in SEPARATORS if not has.separator and marker not in has.stop]
    stops = [
        marker
        for marker in STOPS
        if not has.stop and (not has.separator or has.separator not in marker)
    ]
    labels: set[str] = set()
    texts = pairs(rows)
    while batch := list(islice(texts, _BATCH_ROWS)):
        prompts = _may_hold(separators, (pair.prompt for pair in batch))
        answers = _may_hold(
            [*separators, *stops], (f" {pair.completion.strip()}" for pair in batch)
        )
        if not prompts | answers:
            continue
        for prompt, completion in _texts(batch, found):
            separators = [marker for marker in separators if _can_mark(marker, prompt, completion)]
            stops = [marker for marker in stops if _can_mark(marker, f" {completion}")]
    if task == "classification":
        labels.update(has.bare_completion(pair.completion).strip() for pair in pairs(rows))
    separator = has.separator
    if not separator and task != "open-ended generation":
        separator = next(iter(separators), "") or _numbered_marker(
            lambda marker: (_can_mark(marker, *texts) for texts in _texts(pairs(rows), found))
        )
    labels.discard("")
    without_stop = PromptFormat(separator, " ", has.stop)
    # The default of every caller: it does not say that the model has this encoding.
    counted = None if encoding == "r50k_base" else encoding
    if has.stop or (
        labels
        and not beginnings(labels)
        and set(without_stop.class_tokens(labels, counted).values()) == {1}
    ):
        return without_stop
    stop = next(iter(stops), "") or _numbered_marker(
        lambda marker: (_can_mark(marker, f" {text}") for _, text in _texts(pairs(rows), found))
    )
    return PromptFormat(separator, " ", stop)


def _texts(rows: Iterable[Pair], found: PromptFormat | None) -> Iterator[tuple[str, str]]:
    """Yield the texts in which a new marker must not occur."""
    for prompt, completion, _ in rows:
        if found is None:
            yield prompt, completion.strip()
        else:
            bare = without_stops(completion, found.stop).strip()
            yield without_separators(prompt, found.separator), bare


def _may_hold(markers: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Return the markers that may fail `_can_mark` in some text; the others pass in all of them.

    A fast test of many texts at once: taking the known endings off a text adds nothing to it.
    """
    joined = "\0".join(texts)
    return {marker for marker in markers if head(marker) in joined}


def _can_mark(marker: str, *texts: str) -> bool:
    """Return whether no text contains the marker or overlaps the one written after it."""
    ends = overlaps(marker)
    return not any(marker in text or text.endswith(ends) for text in texts)


def _numbered_marker(can_mark: Callable[[str], Iterable[bool]]) -> str:
    """Return a marker that occurs nowhere, for data in which all the candidates occur."""
    number = 1
    while not all(can_mark(f"\n\n### {number} ###\n\n")):
        number += 1
    return f"\n\n### {number} ###\n\n"
