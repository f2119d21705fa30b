"""Rows whose prompts are almost the same, exact repeats aside. Takes 256 bytes a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.datasets.findings import Finding, Location, LocationCounter
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from tunesmith.datasets.near_duplicates import Sketch
    from tunesmith.datasets.readers.batch import Source

__all__ = ["near_duplicate_findings"]


def near_duplicate_findings(source: Source, max_examples: int) -> list[Finding]:
    """Return the rows that are almost the same as an earlier one."""
    from tunesmith.datasets.near_duplicates import cluster, sketch  # noqa: PLC0415 - as needed
    from tunesmith.datasets.pairs import prompt_text  # noqa: PLC0415

    locations: list[Location] = []
    sketches: list[Sketch] = []
    texts: list[int] = []
    for batch in source.batches():
        for row in batch.rows(source.name):
            text = prompt_text(row.value)
            locations.append(Location(row.line, row.byte_offset))
            sketches.append(sketch(text))
            texts.append(hash(text))
    counter = LocationCounter(max_examples)
    first: dict[int, int] = {}
    seen: set[int] = set()
    for index, key in enumerate(cluster(sketches)):
        earlier = first.setdefault(key, index)
        if earlier != index and texts[index] not in seen:
            message = f"almost the same prompt as line {locations[earlier].line}"
            counter.add(
                Location(locations[index].line, locations[index].byte_offset, message=message)
            )
        seen.add(texts[index])
    return [make_finding("near-duplicates", counter)] if counter.count else []
