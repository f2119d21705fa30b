"""The result file: a CSV with one row per training step, read as typed rows.

The legacy API (`/v1/fine-tunes`) and the fine-tuning jobs API (`/v1/fine_tuning/jobs`)
name their columns differently, and the hosted service encodes the file of the latter in
base64. Both can be read; an unknown column is kept under its own name. A cell is empty
where nothing was measured at that step, and reads as None.
"""

from __future__ import annotations

import base64
import binascii
import csv
import importlib
import io
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith._install import install_command
from tunesmith._notebook import table
from tunesmith.atomic import write_atomically
from tunesmith.errors import TunesmithError

from .rows import ResultRow
from .summary import Summary, summarise

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["ResultFileError", "Results", "html_table", "parse", "read"]

CLASSIFICATION_PREFIX = "classification/"

# Rows at the end of the file that notebooks show.
HTML_ROWS = 10

# Column name of the fine-tuning jobs API → the legacy API's name of the same metric.
SYNONYMS = {
    "train_loss": "training_loss",
    "train_accuracy": "training_token_accuracy",
    "train_mean_token_accuracy": "training_token_accuracy",
    "valid_loss": "validation_loss",
    "valid_accuracy": "validation_token_accuracy",
    "valid_mean_token_accuracy": "validation_token_accuracy",
}


class ResultFileError(TunesmithError):
    """A file is not a result file, or is damaged; the message names the line and the column."""


@dataclass(frozen=True, slots=True)
class Results:
    """A result file.

    Attributes:
        columns: Column names as the file gives them, in its order.
        rows: One entry per training step, in the file's order.
        cells: Column name → its numbers; None where nothing was measured.
    """

    columns: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    cells: Mapping[str, tuple[float | None, ...]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ResultRow]:
        return iter(self.rows)

    def series(self, column: str) -> list[tuple[int, float]]:
        """Return the (step, value) pairs of a column where it was measured.

        Args:
            column: A column name of either API; both names return the same values.
        """
        wanted = _canonical(column)
        found = next((name for name in self.columns if _canonical(name) == wanted), None)
        values = self.cells[found] if found else ()
        return [
            (row.step, value)
            for row, value in zip(self.rows, values, strict=False)
            if value is not None
        ]

    @property
    def classification_columns(self) -> tuple[str, ...]:
        """The names of the classification metrics, without their prefix."""
        return tuple(
            name.removeprefix(CLASSIFICATION_PREFIX)
            for name in self.columns
            if name.startswith(CLASSIFICATION_PREFIX)
        )

    def summary(self) -> Summary:
        """Return the main metrics: losses, accuracies, the best step, over-fitting."""
        return summarise(self.rows)

    def plot(self, path: str | os.PathLike[str] | None = None, *, title: str | None = None) -> Any:
        """Draw loss and accuracy over the steps; see `tunesmith.results.plot.draw`."""
        from .plot import draw

        return draw(self.rows, path, title=title)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the table as CSV with the file's own columns; write it to `path`, if given."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(
            [_cell(self.cells[name][index]) for name in self.columns]
            for index in range(len(self.rows))
        )
        if path is not None:
            with write_atomically(path) as output:
                output.write(buffer.getvalue().encode())
        return buffer.getvalue()

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with the file's own columns; needs pandas."""
        return _library("pandas").DataFrame({name: list(self.cells[name]) for name in self.columns})

    def to_polars(self) -> Any:
        """Return a polars DataFrame with the file's own columns; needs polars."""
        return _library("polars").DataFrame({name: list(self.cells[name]) for name in self.columns})

    def _repr_html_(self) -> str:
        """Return the summary and the last rows as HTML."""
        first = max(0, len(self) - HTML_ROWS)
        rows = (
            [_html_cell(self.cells[name][index]) for name in self.columns]
            for index in range(first, len(self))
        )
        caption = f"last {len(self) - first} of {len(self)} steps"
        return self.summary()._repr_html_() + html_table(self.columns, rows, caption)


def html_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None
) -> str:
    """Return text as an HTML table. All of it is escaped: it comes from a file."""
    return table(header, ([escape(cell) for cell in row] for row in rows), caption)


def _html_cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _library(name: str) -> Any:
    """Import a data frame library; no extra includes one, since the user chooses."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"{name} is not installed. Install it with: {install_command(name)}"
        raise TunesmithError(message) from error


def read(path: str | os.PathLike[str]) -> Results:
    """Read a result file from disk.

    Raises:
        ResultFileError: The file cannot be read or is not a result file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ResultFileError(f"{path} cannot be read: {error.strerror}.") from error
    return parse(content)


def parse(content: bytes | str) -> Results:
    """Read the content of a result file, plain or base64.

    Raises:
        ResultFileError: It is not a CSV with a `step` column, or a cell is not a number;
            the message names the line and the column.
        TypeError: It is no content, but a job or a file.
    """
    _require_content(content)
    text = _decode(content)
    reader = csv.reader(io.StringIO(text))
    header = next(reader, list[str]())
    if "step" not in header:
        found = ", ".join(header[:6])[:100] or "nothing"
        advice = "" if "\n" in text.strip() or "," in text else _ADVICE_FOR_NAMES
        raise ResultFileError(
            f"This is not a result file: its first line has no column 'step' (it has: {found})."
            f"{advice}"
        )
    columns: dict[str, list[float | None]] = {name: [] for name in header}
    if len(columns) != len(header):
        raise ResultFileError("The result file names a column twice in its first line.")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ResultFileError(
                f"Line {reader.line_num} of the result file has {len(cells)} cells, "
                f"its first line has {len(header)}."
            )
        for name, cell in zip(header, cells, strict=True):
            columns[name].append(_number(cell, reader.line_num, name))
    frozen = {name: tuple(values) for name, values in columns.items()}
    count = len(frozen["step"])
    rows = tuple(
        _row({name: frozen[name][index] for name in header}, index) for index in range(count)
    )
    return Results(tuple(header), rows, frozen)


_ADVICE_FOR_NAMES = (
    " A file on disk is read by results.read(PATH), one of the server by "
    "client.files.content(ID).read()."
)


def _require_content(value: object) -> None:
    """Refuse what is no content, with the way to it."""
    if isinstance(value, (bytes, bytearray, str)):
        return
    way = ""
    if hasattr(value, "read"):
        way = " Add .read()."
    elif hasattr(value, "result_files"):
        way = " The job's method results() reads it."
    raise TypeError(f"Expected the content of a result file, not {type(value).__name__}.{way}")


def _decode(content: bytes | str) -> str:
    """Return the CSV's text. Base64 holds no comma, a result file's first line always does."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResultFileError(
            f"The result file is not UTF-8 text: byte {error.start} cannot be read."
        ) from error
    first_line = text.split("\n", 1)[0]
    if "," in first_line or not text.strip():
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8-sig")
    except (binascii.Error, UnicodeDecodeError):
        return text


def _number(cell: str, line: int, column: str) -> float | None:
    """Return the cell's number; None for an empty cell or NaN, where nothing was measured."""
    text = cell.strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ResultFileError(
            f"Line {line} of the result file: {column} is {cell[:40]!r}, not a number."
        ) from None
    return None if math.isnan(value) else value


def _row(cells: dict[str, float | None], index: int) -> ResultRow:
    step = cells.pop("step")
    known: dict[str, Any] = {}
    classification: dict[str, float] = {}
    other: dict[str, float] = {}
    for name, value in cells.items():
        field_name = _canonical(name)
        if value is None:
            continue
        if name.startswith(CLASSIFICATION_PREFIX):
            classification[name.removeprefix(CLASSIFICATION_PREFIX)] = value
        elif field_name in ("elapsed_tokens", "elapsed_examples"):
            known[field_name] = int(value)
        elif field_name in ResultRow.__dataclass_fields__:
            known[field_name] = value
        else:
            other[name] = value
    return ResultRow(
        step=index + 1 if step is None else int(step),
        classification=classification,
        other=other,
        **known,
    )


def _canonical(column: str) -> str:
    return SYNONYMS.get(column, column)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
