"""Parquet files, by pyarrow or by polars, whichever is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tunesmith._install import install_command
from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location
from tunesmith.datasets.optional import optional

from .batch import Batch, FileSource, ListLocations
from .names import distinct
from .plain_values import plain_rows

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
            UnreadableError: The file is not Parquet, is damaged, or no library that reads it is
                installed.
        """
        first = 1
        for values, faults in self._parts():
            lines = list(range(first, first + len(values)))
            found = [
                Fault("cell-value", Location(first + row, path=f"$.{name}", message=message))
                for row, name, message in faults
            ]
            yield Batch(values, ListLocations(lines), len(values), faults=found)
            first += len(values)

    def _parts(self) -> Iterator[tuple[list[dict[str, Any]], list[tuple[int, str, str]]]]:
        arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
        try:
            if arrow is None or parquet is None:
                yield from self._parts_by_polars()
                return
            with parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    yield rows_of_arrow(arrow, batch)
        except UnreadableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever damaged bytes make a library raise
            raise self._unreadable(error) from None

    def _parts_by_polars(self) -> Iterator[tuple[list[dict[str, Any]], list[Any]]]:
        polars = optional("polars")
        if polars is None:
            raise UnreadableError(
                f"Reading Parquet needs pyarrow or polars: {install_command('pyarrow')}"
            )
        frame = polars.read_parquet(self.path)
        for part in frame.iter_slices(_BATCH_ROWS):
            yield plain_rows(part.to_dicts()), []

    def _unreadable(self, error: Exception) -> UnreadableError:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        return UnreadableError(f"{str(self.path)!r} cannot be read as Parquet: {reason}.")


def rows_of_arrow(
    arrow: Any, batch: Any
) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    """Return the rows of a batch of Arrow as JSON data.

    Returns:
        The rows, and (row, column, message) of each value that Python cannot hold.
    """
    names = distinct(batch.schema.names)
    if names != batch.schema.names:
        batch = batch.rename_columns(names)
    try:
        return plain_rows(batch.to_pylist()), []
    except (ArithmeticError, ValueError):
        faults: list[tuple[int, str, str]] = []
        columns = {
            name: _plain_column(arrow, column, name, faults)
            for name, column in zip(names, batch.columns, strict=True)
        }
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values())]  # noqa: B905 - columns of one batch
        return plain_rows(rows), faults


def _plain_column(
    arrow: Any, column: Any, name: str, faults: list[tuple[int, str, str]]
) -> list[Any]:
    """Return the values of a column; one that Python cannot hold, such as a late date, as text."""
    values: list[Any] = []
    for number, cell in enumerate(column):
        try:
            values.append(cell.as_py())
        except (ArithmeticError, ValueError) as error:
            text = _cell_text(arrow, cell)
            faults.append((number, name, f"{text or 'a value'} cannot be read: {error}"))
            values.append(text)
    return values


def _cell_text(arrow: Any, cell: Any) -> str | None:
    try:
        return str(cell.cast(arrow.string()).as_py())
    except (arrow.ArrowException, ArithmeticError, ValueError):
        return None
