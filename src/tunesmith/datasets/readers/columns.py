"""A source that makes prompt/completion rows of two columns of another source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.findings import Fault

from .batch import Batch, ListLocations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .batch import Source

__all__ = ["Columns"]


class Columns:
    """Prompt/completion rows made of two columns; numbers and booleans become text."""

    def __init__(self, source: Source, prompt: str, completion: str) -> None:
        self.inner = source
        self.prompt = prompt
        self.completion = completion
        self.name: str | None = source.name
        self.format: str = source.format
        self.size: int | None = source.size

    def __repr__(self) -> str:
        return f"Columns({self.inner!r}, {self.prompt!r}, {self.completion!r})"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        for batch in self.inner.batches():
            yield self._chosen(batch)

    def _chosen(self, batch: Batch) -> Batch:
        locations = ListLocations(offsets=[])
        chosen = Batch([], locations, batch.lines, faults=list(batch.faults))
        for index, value in enumerate(batch.values):
            missing = [name for name in (self.prompt, self.completion) if name not in value]
            if missing:
                message = f"no column {missing[0]!r}; there are {', '.join(map(repr, value))}"
                location = batch.location(index, f"$.{missing[0]}", message)
                chosen.faults.append(Fault("missing-field", location))
                continue
            row = {"prompt": _text(value[self.prompt]), "completion": _text(value[self.completion])}
            chosen.values.append(row)
            locations.lines.append(batch.locations.line(index))
            locations.texts.append(batch.locations.excerpt(index))
            offset = batch.locations.offset(index)
            if offset is None:
                locations.offsets = None
            elif locations.offsets is not None:
                locations.offsets.append(offset)
        return chosen


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, bool | int | float) else value
