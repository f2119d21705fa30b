"""Fast scans of the bytes of a chunk, by numpy where it is installed."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, NamedTuple

from tunesmith.datasets.optional import optional

__all__ = ["StringScan", "count_byte", "scan_strings"]

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_U: Final = ord("u")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_DOUBTFUL: Final = re.compile(rb"\\(?:[bf]|u00[01]|u[dD][89a-fA-F])")
_ESCAPE_LENGTH: Final = 6
"""Of an escape by code: \\ud83d."""


class StringScan(NamedTuple):
    """Facts about the strings of valid JSON texts.

    Attributes:
        quotes: Quotes that begin or end a string.
        safe: Whether no escape can stand for a control character other than tab and line
            ends, or for half of a surrogate pair. False may be a false alarm.
    """

    quotes: int
    safe: bool


def count_byte(chunk: bytes, byte: int) -> int:
    """Return how often a byte occurs."""
    numpy = optional("numpy")
    if numpy is None:
        return chunk.count(byte)
    return int(numpy.count_nonzero(numpy.frombuffer(chunk, numpy.uint8) == byte))


def scan_strings(chunk: bytes) -> StringScan:
    """Count the quotes and classify the escapes of valid JSON texts."""
    numpy = optional("numpy")
    if numpy is None:
        return _scan_in_python(chunk)
    data = numpy.frombuffer(chunk, numpy.uint8)
    quotes = int(numpy.count_nonzero(data == _QUOTE))
    at = _escapes(numpy, data)
    after = data[at + 1]
    quotes -= int(numpy.count_nonzero(after == _QUOTE))
    return StringScan(quotes, _are_safe(numpy, data, at, after))


def _escapes(numpy: Any, data: Any) -> Any:
    """Return where the backslashes are that no other backslash escapes."""
    at = numpy.flatnonzero(data == _BACKSLASH)
    starts_run = numpy.ones(len(at), dtype=bool)
    numpy.not_equal(at[1:], at[:-1] + 1, out=starts_run[1:])
    if starts_run.all():
        return at
    number = numpy.arange(len(at))
    first_of_run = numpy.maximum.accumulate(numpy.where(starts_run, number, 0))
    return at[(number - first_of_run) % 2 == 0]


def _are_safe(numpy: Any, data: Any, at: Any, after: Any) -> bool:
    kinds = _kinds()[after]
    if kinds.any():
        if (kinds == _DOUBTFUL_KIND).any():
            return False
        at = at[kinds == _BY_CODE]
        first, second, third = data[at + 2] | 32, data[at + 3] | 32, data[at + 4]
        control = (first == ord("0") | 32) & (second == ord("0") | 32) & (third <= ord("1"))
        if control.any():
            return False
        surrogate = first == ord("d")
        high = at[surrogate & numpy.isin(second, list(b"89ab"))]
        low = at[surrogate & numpy.isin(second, list(b"cdef"))]
        return bool(numpy.array_equal(high + _ESCAPE_LENGTH, low))
    return True


_BY_CODE: Final = 1
_DOUBTFUL_KIND: Final = 2


@cache
def _kinds() -> Any:
    """Return for the byte after a backslash what kind of escape it makes; 0 is a safe one."""
    kinds = optional("numpy").full(256, _DOUBTFUL_KIND, dtype="uint8")
    kinds[list(b'"\\/nrt')] = 0
    kinds[_U] = _BY_CODE
    return kinds


def _scan_in_python(chunk: bytes) -> StringScan:
    quotes = chunk.count(b'"')
    if b"\\\\" in chunk:
        quotes -= _ESCAPE.findall(chunk).count(b'"')
    else:
        quotes -= chunk.count(b'\\"')
    return StringScan(quotes, _DOUBTFUL.search(chunk) is None)
