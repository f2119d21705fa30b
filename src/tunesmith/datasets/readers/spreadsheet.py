"""XLSX workbooks, read with the standard library alone; every cell becomes text.

A workbook is a ZIP archive of XML parts (ECMA-376, Office Open XML). The first sheet is read, its
first row names the columns; other sheets that hold something are named in a fault. Text stays
text ("NA" too), whole numbers have no ".0", dates and times are written as in ISO 8601.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from itertools import chain, repeat
from typing import IO, TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location

from .batch import Batch, FileSource, ListLocations

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Spreadsheet"]

_BATCH_ROWS: Final = 4096
_LARGEST_PART: Final = 4 << 30
_RELATION: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_DATE_FORMATS: Final = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
_LITERALS: Final = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_COLUMN: Final = re.compile(r"[A-Z]+")


class Spreadsheet(FileSource):
    """The first sheet of a workbook. A row's line is its row number; there are no byte offsets."""

    format = "xlsx"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            UnreadableError: The file is not a workbook.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield from _batches(_Workbook(archive))
        except (zipfile.BadZipFile, KeyError, ET.ParseError, EOFError) as error:
            raise UnreadableError(
                f"{str(self.path)!r} is not an XLSX workbook that can be read: {error}."
            ) from None


def _batches(workbook: _Workbook) -> Iterator[Batch]:
    batch, done = Batch([], ListLocations(), 0), 0
    batch.faults += workbook.ignored_sheets()
    header: list[str] = []
    for number, cells in workbook.rows():
        if not header:
            header = [cell.strip() for cell in cells]
            batch.faults += _header_faults(header, number)
            continue
        if not any(cells):
            continue
        extra = cells[len(header) :]
        if any(extra):
            message = f"a cell beyond the last named column: {extra[-1][:40]!r}"
            batch.faults.append(Fault("table-columns", Location(number, message=message)))
            continue
        filled = chain(cells, repeat(""))
        value = {name: cell for name, cell in zip(header, filled, strict=False) if name}
        batch.values.append(value)
        locations = batch.locations
        if isinstance(locations, ListLocations):
            locations.lines.append(number)
            locations.texts.append(" | ".join(cells)[:200])
        batch.lines = number - done
        if len(batch.values) >= _BATCH_ROWS:
            done = number
            yield batch
            batch = Batch([], ListLocations(), 0)
    yield batch


def _header_faults(header: list[str], number: int) -> list[Fault]:
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if not repeated:
        return []
    message = f"the column {repeated[0]!r} is named more than once"
    return [Fault("table-header", Location(number, message=message))]


class _Workbook:
    """The parts of a workbook that are read."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._relations = {
            element.get("Id", ""): element.get("Target", "")
            for element in self._elements("xl/_rels/workbook.xml.rels", "Relationship")
        }
        self.sheets: list[tuple[str, str]] = []
        self._epoch = dt.datetime(1899, 12, 30)  # noqa: DTZ001 - sheets know no time zone
        for element in self._elements("xl/workbook.xml", "sheet", "workbookPr"):
            if _name(element) == "workbookPr":
                if element.get("date1904") in {"1", "true"}:
                    self._epoch = dt.datetime(1904, 1, 1)  # noqa: DTZ001
                continue
            target = self._relations[element.get(_RELATION, "")]
            part = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            self.sheets.append((element.get("name", ""), part))
        self._strings = self._shared_strings()
        self._date_styles = self._find_date_styles()

    def ignored_sheets(self) -> list[Fault]:
        """Return a fault for each further sheet that holds something."""
        return [
            Fault("sheets-ignored", Location(1, message=f"the sheet {name!r} was not read"))
            for name, part in self.sheets[1:]
            if "worksheets" in part and next(self._elements(part, "c"), None) is not None
        ]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the cells of each row of the first sheet."""
        if not self.sheets:
            return
        number = 0
        for row in self._elements(self.sheets[0][1], "row"):
            number = int(row.get("r", number + 1))
            cells: list[str] = []
            for cell in row:
                if _name(cell) != "c":
                    continue
                column = _column_number(cell.get("r"), len(cells))
                cells += [""] * (column - len(cells))
                cells.append(self._text(cell))
            yield number, cells

    def _text(self, cell: ET.Element) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return _rich_text(cell)
        value = next((child.text or "" for child in cell if _name(child) == "v"), "")
        if kind == "s":
            return self._strings[int(value)] if value else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, value)
        if kind != "n" or not value:
            return value
        if int(cell.get("s", "0")) in self._date_styles:
            return self._date(float(value))
        return _number(value)

    def _date(self, serial: float) -> str:
        moment = self._epoch + dt.timedelta(seconds=round(serial * 86_400))
        if serial < 1:
            return moment.strftime("%H:%M:%S")
        return moment.strftime("%Y-%m-%d" if serial == int(serial) else "%Y-%m-%d %H:%M:%S")

    def _shared_strings(self) -> list[str]:
        part = "xl/sharedStrings.xml"
        if part not in self._archive.namelist():
            return []
        return [_rich_text(element) for element in self._elements(part, "si")]

    def _find_date_styles(self) -> set[int]:
        """Return the numbers of the cell styles that show a number as a date or time."""
        part = "xl/styles.xml"
        if part not in self._archive.namelist():
            return set()
        dates = set(_DATE_FORMATS)
        styles: list[int] = []
        for element in self._elements(part, "numFmt", "cellXfs"):
            if _name(element) == "cellXfs":
                styles = [int(style.get("numFmtId", "0")) for style in element]
            elif re.search("[dmyhs]", _LITERALS.sub("", element.get("formatCode", "").lower())):
                dates.add(int(element.get("numFmtId", "0")))
        return {number for number, format_id in enumerate(styles) if format_id in dates}

    def _elements(self, part: str, *names: str) -> Iterator[ET.Element]:
        """Yield the elements of a part with one of the names, each cleared after use."""
        if self._archive.getinfo(part).file_size > _LARGEST_PART:
            raise UnreadableError(f"The part {part} of the workbook is too large.")
        with self._archive.open(part) as stream:
            yield from _parse(stream, names)


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
            pieces.append(child.text or "")
        elif name in {"r", "is"}:
            pieces.append(_rich_text(child))
    return "".join(pieces)


def _column_number(reference: str | None, following: int) -> int:
    """Return the column of a cell reference such as "AB12", counted from 0."""
    match = _COLUMN.match(reference or "")
    if match is None:
        return following
    number = 0
    for letter in match[0]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _number(value: str) -> str:
    """Return a number in its shortest form: 1 for 1.0, 0.1 for 0.10000000000000001."""
    try:
        number = float(value)
    except ValueError:
        return value
    whole = number.is_integer() and abs(number) < 2**53
    return str(int(number)) if whole else repr(number)
