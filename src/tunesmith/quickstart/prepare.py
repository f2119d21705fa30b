"""From tweets to three files: training data, validation data, held-out data.

All of it is derived from the CSV file and the seed, so a second run produces files of the
same content, which need not be uploaded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith import datasets

from .tweets import write_csv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tunesmith.datasets import Dataset, PromptFormat

    from .tweets import Tweet

__all__ = ["Prepared", "prepare"]

HELD_OUT_SHARE = 0.15
VALIDATION_SHARE = 0.12


@dataclass(frozen=True, slots=True)
class Prepared:
    """The files, and the prompt format that they share.

    Attributes:
        source: The tweets as CSV.
        training: Rows to train on.
        validation: Rows for the job's validation loss.
        held_out: (prompt, completion) pairs for the evaluation; neither file has one like them.
    """

    source: Path
    training: Path
    validation: Path
    training_rows: int
    validation_rows: int
    held_out: Sequence[tuple[str, str]]
    prompt_format: PromptFormat


def prepare(tweets: Sequence[Tweet], folder: Path, prompt_format: PromptFormat) -> Prepared:
    """Write the files. Near duplicates stay on one side of each split."""
    source = folder / "tweets.csv"
    write_csv(tweets, source)
    data = datasets.read(source, prompt="tweet", completion="sentiment")
    ready = data.plan(prompt_format=prompt_format).apply()
    rest, held_out = ready.split(validation=HELD_OUT_SHARE)
    training, validation = rest.split(validation=VALIDATION_SHARE)
    held_out.write(folder / "held_out.jsonl")
    return Prepared(
        source=source,
        training=training.write(folder / "train.jsonl"),
        validation=validation.write(folder / "valid.jsonl"),
        training_rows=len(training),
        validation_rows=len(validation),
        held_out=_pairs(held_out),
        prompt_format=prompt_format,
    )


def _pairs(data: Dataset) -> list[tuple[str, str]]:
    return [(row.value["prompt"], row.value["completion"]) for row in data]
