"""`ConvertedRows`: a source whose rows are those of another source, converted as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.findings import Fault
from tunesmith.datasets.readers.batch import Batch, ListLocations

from .example import NotConvertibleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunesmith.datasets.readers.batch import Source

    from .example import Written

__all__ = ["ConvertedRows"]


class ConvertedRows:
    """The rows of another source in another format, with the locations that they have there.

    A row that cannot be converted is the fault `row-not-converted`, and what a conversion leaves
    out of a row is the fault `conversion-loss`, so every row comes out or is named.

    Args:
        source: The rows.
        convert: Returns what one row becomes.
    """

    def __init__(self, source: Source, convert: Callable[[dict[str, Any]], Written]) -> None:
        self.inner = source
        self._convert = convert
        self.name: str | None = source.name
        self.format: str = source.format
        self.size: int | None = source.size

    def __repr__(self) -> str:
        return f"ConvertedRows({self.inner!r})"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        for batch in self.inner.batches():
            yield self._converted(batch)

    def _converted(self, batch: Batch) -> Batch:
        locations = ListLocations(offsets=[])
        converted = Batch([], locations, batch.lines, faults=list(batch.faults))
        for index, value in enumerate(batch.values):
            try:
                rows, lost = self._convert(value)
            except NotConvertibleError as error:
                location = batch.location(index, error.path, str(error))
                converted.faults.append(Fault("row-not-converted", location, lost=True))
                continue
            if lost:
                location = batch.location(index, "", f"{', '.join(lost)} left out")
                converted.faults.append(Fault("conversion-loss", location))
            for row in rows:
                converted.values.append(row)
                _copy_location(batch, index, locations)
        return converted


def _copy_location(batch: Batch, index: int, locations: ListLocations) -> None:
    offset = batch.locations.offset(index)
    locations.lines.append(batch.locations.line(index))
    locations.texts.append(batch.locations.excerpt(index))
    if offset is None:
        locations.offsets = None
    elif locations.offsets is not None:
        locations.offsets.append(offset)
