"""XLSX workbooks, read with the standard library alone; every cell becomes text.

A workbook is a ZIP archive of XML parts (ECMA-376, Office Open XML). One sheet is read, its
first row names the columns; other sheets that hold something are named in a fault. Text stays
text ("NA" too), whole numbers have no ".0", dates and times are written as in ISO 8601, durations
and percentages as they are shown. What the cell styles mean is known in `cell_formats`.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
import zlib
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Final, NamedTuple
from xml.etree import ElementTree as ET

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location

from .batch import Batch, FileSource, ListLocations
from .cell_formats import CellValueError, find_kinds, shown
from .names import distinct, header_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .cell_formats import Kind

__all__ = ["Spreadsheet"]

_BATCH_ROWS: Final = 4096
_LARGEST_PART: Final = 4 << 30
_MOST_COLUMNS: Final = 16_384
_RELATION: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_COLUMN: Final = re.compile(r"[A-Z]{1,3}(?=\d)")
_ESCAPE: Final = re.compile("_x([0-9A-Fa-f]{4})_")
# What a damaged archive or part makes zipfile, zlib, expat and int() raise.
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    ET.ParseError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
)


class Spreadsheet(FileSource):
    """A sheet of a workbook. A row's line is its row number; there are no byte offsets.

    Args:
        path: The workbook.
        sheet: Name of the sheet; default: the first that is not hidden.
    """

    format = "xlsx"

    def __init__(self, path: Path, sheet: str | None = None) -> None:
        super().__init__(path)
        self.sheet = sheet

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            UnreadableError: The file is not a workbook, is damaged, or has no such sheet.
        """
        row = 0
        try:
            with zipfile.ZipFile(self.path) as archive:
                for batch in _batches(_Workbook(archive, self.sheet)):
                    row += batch.lines
                    yield batch
        except UnreadableError as error:
            raise UnreadableError(f"{str(self.path)!r}: {error}") from None
        except _DAMAGE as error:
            reason = str(error).strip("'\". ") or type(error).__name__
            after = f" beyond row {row:,}" if row else ""
            raise UnreadableError(
                f"{str(self.path)!r} is not an XLSX workbook that can be read{after}: {reason}."
            ) from None


def _batches(workbook: _Workbook) -> Iterator[Batch]:
    batch, done = Batch([], ListLocations(), 0), 0
    batch.faults += workbook.ignored_sheets()
    table: _Table | None = None
    for row in workbook.rows():
        if table is None:
            batch.faults += row.faults
            if any(row.cells):
                table = _Table(row.cells)
                batch.faults += header_faults(row.cells, row.number, None)
            continue
        batch.faults += row.faults
        if any(row.cells) and not any(fault.lost for fault in row.faults):
            batch.faults += table.name_columns(row)
            batch.values.append(table.value(row.cells))
            locations = batch.locations
            if isinstance(locations, ListLocations):
                locations.lines.append(row.number)
                locations.texts.append(" | ".join(row.cells[:_MOST_SHOWN])[:200])
        batch.lines = row.number - done
        if len(batch.values) >= _BATCH_ROWS:
            done = row.number
            yield batch
            batch = Batch([], ListLocations(), 0)
    yield batch


_MOST_SHOWN: Final = 20


class _Row(NamedTuple):
    """One row of a sheet."""

    number: int
    cells: list[str]
    faults: list[Fault]


class _Table:
    """The names of the columns; a column without one is named as soon as a cell holds something."""

    def __init__(self, header: list[str]) -> None:
        self.names = distinct(cell.strip() for cell in header)
        self._unnamed = {at for at, cell in enumerate(header) if not cell.strip()}

    def name_columns(self, row: _Row) -> list[Fault]:
        """Name the columns that a row uses and the header does not, each told in a fault."""
        faults: list[Fault] = []
        self._unnamed |= set(range(len(self.names), len(row.cells)))
        self.names += [""] * (len(row.cells) - len(self.names))
        for at in sorted(self._unnamed):
            if at < len(row.cells) and row.cells[at]:
                self._unnamed.remove(at)
                letters = _letters(at)
                self.names[at] = distinct([*self.names, f"column {letters}"])[-1]
                message = f"column {letters} holds {row.cells[at][:40]!r} and has no name"
                faults.append(Fault("column-unnamed", Location(row.number, message=message)))
        return faults

    def value(self, cells: list[str]) -> dict[str, str]:
        """Return the row: the named columns, and what lies in others."""
        pairs = zip_longest(self.names, cells, fillvalue="")
        return {
            name: cell for at, (name, cell) in enumerate(pairs) if name and at not in self._unnamed
        }


class _Workbook:
    """The parts of a workbook that are read.

    Raises:
        UnreadableError: There is no such sheet.
    """

    def __init__(self, archive: zipfile.ZipFile, sheet: str | None) -> None:
        self._archive = archive
        self._relations = {
            element.get("Id", ""): element.get("Target", "")
            for element in self._elements("xl/_rels/workbook.xml.rels", "Relationship")
        }
        self.sheets: list[_Sheet] = []
        self._epoch = dt.datetime(1899, 12, 30)  # noqa: DTZ001 - sheets know no time zone
        for element in self._elements("xl/workbook.xml", "sheet", "workbookPr"):
            if _name(element) == "workbookPr":
                if element.get("date1904") in {"1", "true"}:
                    self._epoch = dt.datetime(1904, 1, 1)  # noqa: DTZ001
                continue
            target = self._relations.get(element.get(_RELATION, ""), "")
            part = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            if "worksheets" in part:
                hidden = element.get("state", "visible") != "visible"
                self.sheets.append(_Sheet(_unescaped(element.get("name", "")), part, hidden=hidden))
        self._named = sheet is not None
        self._sheet = self._chosen(sheet)
        self._strings = self._shared_strings()
        self._kinds = self._find_kinds()

    def _chosen(self, name: str | None) -> _Sheet | None:
        if name is None:
            visible = [sheet for sheet in self.sheets if not sheet.hidden]
            return next(iter(visible or self.sheets), None)
        for sheet in self.sheets:
            if sheet.name.casefold() == name.casefold():
                return sheet
        names = ", ".join(repr(sheet.name) for sheet in self.sheets)
        raise UnreadableError(f"there is no sheet {name!r}; the sheets are {names}.")

    def ignored_sheets(self) -> list[Fault]:
        """Return a fault for each other sheet that holds something, unless one was named."""
        if self._named:
            return []
        return [
            Fault("sheets-ignored", Location(1, message=f"the sheet {sheet} was not read"))
            for sheet in self.sheets
            if sheet != self._sheet and next(self._elements(sheet.part, "c"), None) is not None
        ]

    def rows(self) -> Iterator[_Row]:
        """Yield the rows of the sheet."""
        if self._sheet is None:
            return
        number = 0
        for row in self._elements(self._sheet.part, "row"):
            number = _whole(row.get("r"), number + 1)
            cells: list[str] = []
            faults: list[Fault] = []
            for cell in row:
                if _name(cell) == "c":
                    self._add(cell, cells, number, faults)
            yield _Row(number, cells, faults)

    def _add(self, cell: ET.Element, cells: list[str], number: int, faults: list[Fault]) -> None:
        """Append the text of a cell, after empty ones for those that were left out before it."""
        column = _column_number(cell.get("r"), len(cells))
        cells += [""] * (column - len(cells))
        place = f"{_letters(column)}{number}"
        try:
            text = self._text(cell)
        except CellValueError as error:
            text = error.stored
            message = f"{place} holds {error.stored[:40]!r}, {error}"
            faults.append(Fault("cell-value", Location(number, message=message)))
        except (IndexError, ValueError):
            text = ""
            message = f"{place} holds no value that can be read"
            lost = not any(fault.lost for fault in faults)
            faults.append(Fault("cell-unreadable", Location(number, message=message), lost=lost))
        if column < len(cells):  # two cells for one place
            cells[column] = cells[column] or text
        else:
            cells.append(text)

    def _text(self, cell: ET.Element) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return _rich_text(cell)
        value = next((child.text or "" for child in cell if _name(child) == "v"), "")
        if kind == "s":
            return self._strings[_index(value)] if value else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, value)
        if kind == "str":
            return _unescaped(value)
        if kind != "n" or not value:
            return value
        style = _whole(cell.get("s"), 0)
        return shown(value, self._kinds.get(style), self._epoch)

    def _shared_strings(self) -> list[str]:
        part = "xl/sharedStrings.xml"
        if part not in self._archive.namelist():
            return []
        return [_rich_text(element) for element in self._elements(part, "si")]

    def _find_kinds(self) -> dict[int, Kind]:
        part = "xl/styles.xml"
        if part not in self._archive.namelist():
            return {}
        codes: dict[int, str] = {}
        styles: list[int] = []
        for element in self._elements(part, "numFmt", "cellXfs"):
            if _name(element) == "cellXfs":
                styles = [_whole(style.get("numFmtId"), 0) for style in element]
            else:
                codes[_whole(element.get("numFmtId"), 0)] = element.get("formatCode", "")
        return find_kinds(styles, codes)

    def _elements(self, part: str, *names: str) -> Iterator[ET.Element]:
        """Yield the elements of a part with one of the names, each cleared after use."""
        if self._archive.getinfo(part).file_size > _LARGEST_PART:
            raise UnreadableError(f"the part {part} of the workbook is too large.")
        with self._archive.open(part) as stream:
            yield from _parse(stream, names)


class _Sheet:
    """A worksheet: its name, its part, and whether it is hidden."""

    def __init__(self, name: str, part: str, *, hidden: bool) -> None:
        self.name = name
        self.part = part
        self.hidden = hidden

    def __str__(self) -> str:
        return f"{self.name!r}, which is hidden," if self.hidden else repr(self.name)


def _parse(stream: IO[bytes], names: tuple[str, ...]) -> Iterator[ET.Element]:
    # Entities are never declared in a workbook, and expat limits what they could grow to.
    for _, element in ET.iterparse(stream):  # noqa: S314
        if _name(element) in names:
            yield element
            element.clear()


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _rich_text(element: ET.Element) -> str:
    """Return the text of a string item: its runs joined, without phonetic guides."""
    pieces: list[str] = []
    for child in element:
        name = _name(child)
        if name == "t":
            pieces.append(_unescaped(child.text or ""))
        elif name in {"r", "is"}:
            pieces.append(_rich_text(child))
    return "".join(pieces)


def _unescaped(text: str) -> str:
    """Return a text of a workbook, which writes characters that XML lacks as `_x000D_`.

    Lines end with a line feed in what a user typed; a carriage return comes of how it was saved.
    """
    if "_x" not in text:
        return text
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    plain = plain.replace("\r\n", "\n").replace("\r", "\n")
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole(text: str | None, default: int) -> int:
    """Return a number that stands in an attribute, or the default where it is damaged."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else default


def _index(text: str) -> int:
    """Return the number of a shared string.

    Raises:
        ValueError: It is none.
    """
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _column_number(reference: str | None, following: int) -> int:
    """Return the column of a cell reference such as "AB12", counted from 0."""
    match = _COLUMN.match(reference or "")
    if match is None:
        return following
    number = 0
    for letter in match[0]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1 if number <= _MOST_COLUMNS else following


def _letters(column: int) -> str:
    """Return the letters of a column, counted from 0."""
    letters = ""
    number = column + 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters
