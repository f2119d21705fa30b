"""Quick questions about the bytes of a chunk, by numpy where it is installed."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from tunesmith.datasets.optional import optional

__all__ = ["count_byte", "only_plain_escapes"]

_BACKSLASH: Final = 0x5C
_PLAIN: Final = frozenset(b'"\\/nrt')
_OTHER_ESCAPE: Final = re.compile(rb"\\[ubf]")


def count_byte(chunk: bytes, byte: int) -> int:
    """Return how often a byte occurs."""
    numpy = optional("numpy")
    if numpy is None:
        return chunk.count(byte)
    return int(numpy.count_nonzero(numpy.frombuffer(chunk, numpy.uint8) == byte))


def only_plain_escapes(chunk: bytes) -> bool:
    r"""Tell whether no backslash is followed by anything but a quote, a slash, n, r or t.

    Then no string of the JSON in the chunk holds a control character, half of a surrogate pair or
    a letter in disguise. False may be a false alarm: `\\b` is a backslash and a letter.
    """
    numpy = optional("numpy")
    if numpy is None:
        return _OTHER_ESCAPE.search(chunk) is None
    data = numpy.frombuffer(chunk, numpy.uint8)
    after = numpy.flatnonzero(data == _BACKSLASH) + 1
    if not len(after):
        return True
    if after[-1] == len(data):
        return False
    return bool(_plain_table()[data[after]].all())


@cache
def _plain_table() -> Any:
    table = optional("numpy").zeros(256, dtype=bool)
    table[list(_PLAIN)] = True
    return table
