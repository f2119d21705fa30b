"""Rows that are in memory already: lists, frames, tables, any iterable of mappings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location, excerpt_of
from tunesmith.datasets.optional import optional

from .batch import Batch, ListLocations
from .names import distinct
from .nested_nulls import without_null_fields
from .plain_values import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.datasets.rows import Row

__all__ = ["LocatedRows", "Rows", "rows_of"]

_BATCH_ROWS: Final = 4096
_NAMES_SHOWN: Final = 10


class Rows:
    """Rows in memory, or in something that can be iterated again and again.

    A row's line is its number, counted from 1.
    """

    format = "rows"
    size: int | None = None

    def __init__(self, rows: Iterable[Any], name: str | None = None) -> None:
        self.rows = rows
        self.name = name

    def __repr__(self) -> str:
        return f"Rows(of {type(self.rows).__name__})"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        rows = iter(self.rows)
        first = 1
        while part := list(islice(rows, _BATCH_ROWS)):
            yield _batch(part, first)
            first += len(part)


def _batch(part: list[Any], first: int) -> Batch:
    values: list[dict[str, Any]] = []
    numbers: list[int] = []
    faults: list[Fault] = []
    for number, row in enumerate(part, first):
        if isinstance(row, Mapping):
            values.append(plain(row))
            numbers.append(number)
        else:
            message = f"a row must be a mapping, not {type(row).__name__}"
            location = Location(number, message=message, excerpt=excerpt_of(repr(row)[:200]))
            faults.append(Fault("json-not-object", location, lost=True))
    return Batch(values, ListLocations(numbers), len(part), faults=faults)


def rows_of(source: Any) -> Rows:
    """Return the rows of a frame, a table, a data set of another library or an iterable.

    pandas and polars frames, Arrow tables and Hugging Face data sets are recognised by their
    methods, so none of these libraries is imported here.

    Raises:
        UnreadableError: `source` is none of these.
    """
    if (table := _rows_of_table(source)) is not None:
        return Rows(_Restartable(table))
    if isinstance(source, Mapping):
        return Rows(_rows_of_columns(source))
    if isinstance(source, list | tuple) or (
        hasattr(source, "__getitem__") and hasattr(source, "__len__")
    ):
        return Rows(_as_iterable(source))
    if isinstance(source, Iterable):
        return Rows(list(_as_iterable(source)))
    raise UnreadableError(
        f"Cannot read rows from {type(source).__name__}: give a path, a file object, a frame or "
        "an iterable of mappings."
    )


def _rows_of_table(source: Any) -> Callable[[], Iterable[dict[str, Any]]] | None:
    """Return what starts to read the rows of a table of another library, or None."""
    if hasattr(source, "iter_rows") and hasattr(source, "columns"):
        return lambda: map(without_null_fields, source.iter_rows(named=True))
    if hasattr(source, "itertuples") and hasattr(source, "columns"):
        return lambda: _pandas_rows(source)
    if hasattr(source, "to_batches") and hasattr(source, "column_names"):
        return lambda: _arrow_rows(source)
    if hasattr(source, "features") and hasattr(source, "column_names"):
        return lambda: map(without_null_fields, source)
    return None


def _rows_of_columns(columns: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Return the rows of a mapping of columns.

    Raises:
        UnreadableError: The values are no lists of one length.
    """
    lists = [list(column) for column in columns.values() if isinstance(column, list | tuple)]
    if not lists or len(lists) < len(columns) or len(set(map(len, lists))) > 1:
        names = ", ".join(repr(name) for name in list(columns)[:_NAMES_SHOWN])
        raise UnreadableError(
            f"Cannot read rows from a mapping of {names}: its values are no columns of one length. "
            "Give one of its parts."
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def _as_iterable(source: Any) -> Iterable[Any]:
    rows: Iterable[Any] = source
    return rows


class _Restartable:
    """An iterable that starts from the beginning each time."""

    def __init__(self, start: Any) -> None:
        self._start = start

    def __iter__(self) -> Iterator[Any]:
        return iter(self._start())


def _pandas_rows(frame: Any) -> Iterator[dict[str, Any]]:
    names = distinct(str(name) for name in frame.columns)
    for values in frame.itertuples(index=False, name=None):
        yield dict(zip(names, values, strict=True))


def _arrow_rows(table: Any) -> Iterator[dict[str, Any]]:
    from .parquet import rows_of_arrow  # noqa: PLC0415 - Arrow's types are known there

    for batch in table.to_batches():
        rows, _ = rows_of_arrow(optional("pyarrow"), batch)
        yield from rows


class LocatedRows:
    """Rows in memory with locations of their own."""

    format = "rows"
    size: int | None = None

    def __init__(self, rows: list[Row], name: str | None = None) -> None:
        self.rows = rows
        self.name: str | None = name or (rows[0].file if rows else None)

    def __repr__(self) -> str:
        return f"LocatedRows({len(self.rows):,} rows)"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        for start in range(0, len(self.rows), _BATCH_ROWS):
            part = self.rows[start : start + _BATCH_ROWS]
            offsets = [row.byte_offset for row in part if row.byte_offset is not None]
            locations = ListLocations(
                [row.line for row in part], offsets if len(offsets) == len(part) else None
            )
            yield Batch([row.value for row in part], locations, len(part))
