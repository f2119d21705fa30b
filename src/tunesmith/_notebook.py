"""What all packages show in a notebook: a table, and an error as one red paragraph.

Below the user's own lines an error says the way out. IPython asks an exception for this; plain
Python's tracebacks stay as they are, and `traceback.print_last()` shows the whole one in a
notebook, too.
"""

from __future__ import annotations

import linecache
import sys
import sysconfig
import traceback
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["one_paragraph", "table"]

_MOST_LINES = 5
_NOT_OWN = {"tunesmith", "IPython", "ipykernel"}
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> str:
    """Return a table; header and caption are text, the rows' cells are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{one}</td>' for one in row)}</tr>" for row in rows)
    title = "" if caption is None else f"<caption>{escape(caption)}</caption>"
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def one_paragraph(error: BaseException) -> list[str]:
    """Return the lines of user code that led to the error, and the error in red."""
    name = type(error).__name__
    return [*_own_lines(error)[-_MOST_LINES:], _red(f"{name}: {error}")]


def _own_lines(error: BaseException) -> list[str]:
    """Return the lines of frames that are neither this package's nor an installed library's."""
    lines: list[str] = []
    for frame, number in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        filename = frame.f_code.co_filename
        if module.partition(".")[0] in _NOT_OWN or filename.startswith(_libraries()):
            continue
        source = linecache.getline(filename, number, frame.f_globals).strip()
        where = "line" if _is_cell(filename) else f"{filename}, line"
        lines.append(f"{where} {number}: {source}" if source else f"{where} {number}")
    return lines


def _is_cell(filename: str) -> bool:
    """Return whether code was typed into a cell; kernels name it as a temporary file."""
    return filename.startswith("<") or "ipykernel_" in filename


def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]})


def _red(text: str) -> str:
    ipython: Any = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    colours = str(getattr(shell, "colors", "")).lower()
    return text if colours == "nocolor" else f"{_RED}{text}{_PLAIN}"
