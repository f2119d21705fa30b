"""What commands print: plain text for people and pipes, JSON on request.

Nothing here writes control codes, so piped output needs no path of its own. Results go
to stdout; errors and notices go to stderr.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any, cast

from tunesmith.progress.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "add_json_option",
    "fields",
    "local_minute",
    "local_time",
    "print_error",
    "print_json",
    "print_notice",
    "table",
]

WIDEST = 100
# A longer cell of a table is truncated; --json prints it whole.
WIDEST_CELL = 60


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, as the API sends it")


def print_json(value: Any) -> None:
    """Print a value as indented JSON, text unescaped."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(message: str) -> None:
    """Print one wrapped paragraph on stderr."""
    text = textwrap.fill(
        f"Error: {message}", _width(), break_on_hyphens=False, break_long_words=False
    )
    print(text, file=sys.stderr)


def print_notice(message: str) -> None:
    """Print what is happening on stderr, so that results can be piped."""
    print(message, file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as aligned columns under a header; only the last column is never truncated."""
    cells = [list(header), *([*map(_cell, row[:-1]), _line(row[-1])] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def fields(values: Mapping[str, object]) -> str:
    """Return one object as lines of name and value; nested values are abbreviated."""
    width = max((len(name) for name in values), default=0)
    return "\n".join(f"{name.ljust(width)}  {_short(value)}" for name, value in values.items())


def local_minute(seconds: int | None) -> str:
    """Return a Unix time as local date and time to the minute; "-" for None or 0."""
    return local_time(seconds)[: len("2026-01-31 12:00")]


def local_time(seconds: int | None) -> str:
    """Return a Unix time as local date and time; "-" for None, 0 and what is no such time."""
    try:
        moment = time.localtime(seconds) if seconds else None
    except (OverflowError, ValueError, OSError):
        # Some servers count milliseconds, or less.
        moment = None
    return time.strftime("%Y-%m-%d %H:%M:%S", moment) if moment is not None else "-"


def _width() -> int:
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)


def _short(value: object) -> str:
    """Return an object as `name=value, …`, and a list of objects as their ids or their number."""
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return ", ".join(f"{name}={_short(item)}" for name, item in pairs) or "-"
    if isinstance(value, list):
        items = cast("list[object]", value)
        if items and all(isinstance(item, dict) and "id" not in item for item in items):
            return f"{len(items)}, see --json"
        return ", ".join(_whole(_id_of(item)) for item in items) or "-"
    return _whole(value)


def _id_of(item: object) -> object:
    return cast("dict[str, object]", item).get("id") if isinstance(item, dict) else item


def _line(value: object) -> str:
    return _whole(value).replace("\n", " ")


def _cell(value: object) -> str:
    text = _line(value)
    return text if len(text) <= WIDEST_CELL else text[: WIDEST_CELL - 1] + "…"


def _whole(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    return json.dumps(value, ensure_ascii=False)
