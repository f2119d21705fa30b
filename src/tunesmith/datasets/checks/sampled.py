"""Checks that a few hundred rows answer for all: token boundaries and upper case."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from tunesmith.datasets.findings import Finding, Location, LocationCounter
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.row_formats import problems
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.checks.settings import Settings
    from tunesmith.datasets.readers.batch import Source
    from tunesmith.datasets.rows import Row

__all__ = ["sampled_findings"]

_ROWS: Final = 500
_TAIL: Final = 100
_FEWEST_LETTERS: Final = 200


def sampled_findings(source: Source, settings: Settings) -> list[Finding]:
    """Return what the first rows of prompt/completion data show."""
    if settings.shape != "prompt_completion":
        return []
    rows = list(islice(_sound_rows(source), _ROWS))
    return [*_boundary(rows, settings), *_upper_case(rows, settings)]


def _sound_rows(source: Source) -> Iterator[Row]:
    for batch in source.batches():
        for row in batch.rows(source.name):
            if not any(problems(row.value, "prompt_completion")):
                yield row


def _boundary(rows: list[Row], settings: Settings) -> list[Finding]:
    """Compare tokens(prompt) + tokens(completion) with tokens(prompt + completion).

    Where they differ, the tokens seen in training are not those of the prompt at inference.
    Text far from the boundary has no part in it, so only the ends are tokenised.
    """
    from tunesmith.datasets import tokens  # noqa: PLC0415 - loads a vocabulary

    encoder = tokens.encoder(settings.encoding)
    counter = LocationCounter(settings.max_examples)
    for row in rows:
        prompt, completion = row.value["prompt"][-_TAIL:], row.value["completion"][:_TAIL]
        if not prompt:
            continue
        apart, together = (
            encoder.count_batch([prompt, completion]),
            encoder.count(prompt + completion),
        )
        if sum(apart) != together:
            ends = f"{prompt[-10:]!r} + {completion[:10]!r}"
            message = f"{ends} is {together} tokens together, {sum(apart)} apart"
            counter.add(Location(row.line, row.byte_offset, message=message))
    if not counter.count:
        return []
    detail = f"{counter.count:,} of the first {len(rows):,} rows ({settings.encoding})"
    return [make_finding("boundary-unstable", counter, detail=detail)]


def _upper_case(rows: list[Row], settings: Settings) -> list[Finding]:
    form = settings.prompt_format or PromptFormat("", "", "")
    columns: list[str] = []
    for name, mark in (("prompt", form.separator), ("completion", form.stop)):
        text = "".join(row.value[name].removesuffix(mark) for row in rows)
        upper = sum(map(str.isupper, text))
        lower = sum(map(str.islower, text))
        if upper + lower >= _FEWEST_LETTERS and upper > lower:
            columns.append(f"{name}s: {upper / (upper + lower):.0%} of the letters")
    if not columns:
        return []
    return [make_finding("upper-case", LocationCounter(0, len(columns)), detail="; ".join(columns))]
