"""What the number format of a cell makes of its number: a date, a duration, a percentage, text.

Of the format codes of ECMA-376 (18.8.30) only that much is known. Times and dates are written as
in ISO 8601, whatever the order of their parts in the code.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CellValueError", "Kind", "find_kinds", "shown"]

Kind: TypeAlias = Literal["date", "hours and minutes", "duration", "percentage"]

_DATES: Final = frozenset((*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)))
_PERCENTAGES: Final = frozenset((9, 10))
_ELAPSED_CODE: Final = 46
_LITERALS: Final = re.compile(r'"[^"]*"|\\.|_.|\*.')
_BRACKETS: Final = re.compile(r"\[[^\]]*\]")
_ELAPSED: Final = re.compile(r"\[(?:h+|m+|s+)\]")
_DAY: Final = 86_400
_LEAP_BUG: Final = 60
"""The day that workbooks call 1900-02-29, which never was: days before it are counted from 1."""


class CellValueError(ValueError):
    """A number is not what its format says.

    Attributes:
        stored: The number, as it is stored.
    """

    def __init__(self, message: str, stored: str) -> None:
        super().__init__(message)
        self.stored = stored


def find_kinds(styles: Sequence[int], codes: Mapping[int, str]) -> dict[int, Kind]:
    """Return what each style of cells shows, where that is more than a number.

    Args:
        styles: The number of the format of each style.
        codes: The codes of the formats that the workbook itself defines.
    """
    kinds: dict[int, Kind | None] = {
        number: _kind(format_id, codes) for number, format_id in enumerate(styles)
    }
    return {number: kind for number, kind in kinds.items() if kind is not None}


def _kind(format_id: int, codes: Mapping[int, str]) -> Kind | None:
    if format_id not in codes:
        if format_id == _ELAPSED_CODE:
            return "duration"
        if format_id in _PERCENTAGES:
            return "percentage"
        return "date" if format_id in _DATES else None
    code = _LITERALS.sub("", codes[format_id].lower()).partition(";")[0]
    if _ELAPSED.search(code):
        return "duration" if "s" in _BRACKETS.sub("", code) or "[s" in code else "hours and minutes"
    code = _BRACKETS.sub("", code)
    if code != "general" and re.search("[dmyhs]", code):
        return "date"
    return "percentage" if "%" in code else None


def shown(value: str, kind: Kind | None, epoch: dt.datetime) -> str:
    """Return a number as text.

    Args:
        value: The number, as it is stored.
        kind: What its format makes of it.
        epoch: The day from which dates are counted.

    Raises:
        CellValueError: It is not what the format says.
    """
    if kind is None:
        return _number(value)
    try:
        number = float(value)
        if kind == "date":
            return _date(number, epoch)
        if kind == "percentage":
            return f"{_number(str(Decimal(_number(value)) * 100))}%"
        return _duration(number, seconds=kind == "duration")
    except (ArithmeticError, ValueError) as error:
        what = "a date beyond the calendar" if kind == "date" else f"no {kind}"
        raise CellValueError(f"which is {what}", value) from error


def _date(serial: float, epoch: dt.datetime) -> str:
    if serial < 0:
        raise ValueError(serial)
    if epoch.year < 1900 and 1 <= serial <= _LEAP_BUG:  # noqa: PLR2004 - the year of the first day
        epoch += dt.timedelta(days=1)
    moment = epoch + dt.timedelta(seconds=round(serial * _DAY))
    if serial < 1:
        return moment.strftime("%H:%M:%S")
    # Not strftime: it leaves out zeros at the start of early years.
    return moment.date().isoformat() if serial == int(serial) else moment.isoformat(sep=" ")


def _duration(days: float, *, seconds: bool) -> str:
    """Return a duration as `36:05` or `36:05:09`."""
    total = round(abs(days) * _DAY)
    sign = "-" if days < 0 and total else ""
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{sign}{hours}:{minutes:02}"
    return f"{text}:{rest:02}" if seconds or rest else text


def _number(value: str) -> str:
    """Return a number in its shortest form: 1 for 1.0, 0.1 for 0.10000000000000001."""
    try:
        number = float(value)
    except ValueError:
        return value
    whole = number.is_integer() and abs(number) < 2**53
    return str(int(number)) if whole else repr(number)
