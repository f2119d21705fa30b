"""Write small XLSX workbooks for tests, with the standard library alone."""

from __future__ import annotations

import zipfile
from xml.sax.saxutils import escape

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def write_workbook(path, *sheets, names=None, states=None, styles="", cells=None):
    """Write a workbook and return its path.

    Args:
        path: Where to write it.
        sheets: Rows of each sheet; a cell is a text, or (style, number) for a number.
        names: Names of the sheets.
        states: State of each sheet: "visible", "hidden".
        styles: Elements of the part with the styles.
        cells: Extra XML for the last row of the first sheet.
    """
    names = names or [f"Sheet{number}" for number in range(1, len(sheets) + 1)]
    states = states or ["visible"] * len(sheets)
    entries = "".join(
        f'<sheet name="{name}" state="{state}" r:id="r{number}"/>'
        for number, (name, state) in enumerate(zip(names, states, strict=True), 1)
    )
    relations = "".join(
        f'<Relationship Id="r{number}" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "xl/_rels/workbook.xml.rels", f"<Relationships>{relations}</Relationships>"
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{SHEET}" xmlns:r="{RELATIONS}"><sheets>{entries}</sheets>'
            "</workbook>",
        )
        archive.writestr("xl/styles.xml", f'<styleSheet xmlns="{SHEET}">{styles}</styleSheet>')
        for number, rows in enumerate(sheets, 1):
            extra = cells or ""
            body = "".join(
                _row(at, row, extra if at == len(rows) else "") for at, row in enumerate(rows, 1)
            )
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'<worksheet xmlns="{SHEET}"><sheetData>{body}</sheetData></worksheet>',
            )
    return path


def _row(number, cells, extra):
    return f'<row r="{number}">{"".join(map(_cell, cells))}{extra}</row>'


def _cell(cell):
    if isinstance(cell, tuple):
        style, value = cell
        return f'<c s="{style}"><v>{value}</v></c>'
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
