"""Parquet files, by pyarrow or by polars, whichever is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.optional import optional

from .batch import Batch, FileSource, ListLocations

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Parquet"]

_BATCH_ROWS: Final = 4096


class Parquet(FileSource):
    """A Parquet file. A row's line is its number, counted from 1; there are no byte offsets."""

    format = "parquet"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            UnreadableError: The file is not Parquet, or no library that reads it is installed.
        """
        first = 1
        for values in self._parts():
            lines = list(range(first, first + len(values)))
            yield Batch(values, ListLocations(lines), len(values))
            first += len(values)

    def _parts(self) -> Iterator[list[dict[str, Any]]]:
        arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
        if arrow is None or parquet is None:
            yield from self._parts_by_polars()
            return
        try:
            with parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    yield batch.to_pylist()
        except arrow.ArrowException as error:
            raise self._unreadable(error) from None

    def _parts_by_polars(self) -> Iterator[list[dict[str, Any]]]:
        polars = optional("polars")
        if polars is None:
            raise UnreadableError("Reading Parquet needs pyarrow or polars: pip install pyarrow")
        try:
            frame = polars.read_parquet(self.path)
        except polars.exceptions.PolarsError as error:
            raise self._unreadable(error) from None
        for part in frame.iter_slices(_BATCH_ROWS):
            yield part.to_dicts()

    def _unreadable(self, error: Exception) -> UnreadableError:
        reason = str(error).rstrip(".")
        return UnreadableError(f"{str(self.path)!r} cannot be read as Parquet: {reason}.")
