"""A body cut into pieces of one size, or into lines, from chunks of any size as they arrive.

Whole and streamed responses, blocking and not, cut with these, so they agree.
"""

from __future__ import annotations

import codecs
import io
from typing import Any, AnyStr, Generic

from tunesmith.errors import TunesmithError

__all__ = ["LineReader", "Pieces", "TextReader"]


class Pieces(Generic[AnyStr]):
    """Cuts text or bytes into pieces of `size`.

    Args:
        size: Characters or bytes in a piece; None leaves chunks as they are.

    Raises:
        TunesmithError: The size is not a whole number of 1 or more.
    """

    def __init__(self, size: int | None) -> None:
        given: Any = size
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, int) or given < 1
        ):
            raise TunesmithError(
                f"chunk_size is a whole number of 1 or more, or None, not {given!r:.80}."
            )
        self._size = size
        self._held: list[AnyStr] = []
        self._length = 0

    def feed(self, chunk: AnyStr) -> list[AnyStr]:
        """Return the pieces that are complete after `chunk`."""
        size = self._size
        if size is None:
            return [chunk] if chunk else []
        self._held.append(chunk)
        self._length += len(chunk)
        if self._length < size:
            return []
        whole = self._joined()
        end = len(whole) - len(whole) % size
        self._held, self._length = [whole[end:]], len(whole) - end
        return [whole[start : start + size] for start in range(0, end, size)]

    def finish(self) -> list[AnyStr]:
        """Return the last piece, if there is one."""
        rest = self._joined() if self._length else None
        self._held, self._length = [], 0
        return [rest] if rest else []

    def _joined(self) -> AnyStr:
        held: Any = self._held  # of one kind, which type checkers cannot follow into `join`
        whole: AnyStr = held[0][:0].join(held)
        return whole


class TextReader:
    """Decodes UTF-8; characters split between chunks are joined, what is no UTF-8 is replaced."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, chunk: bytes) -> str:
        """Return the text of the characters that are complete after `chunk`."""
        return self._decoder.decode(chunk)

    def finish(self) -> str:
        """Return what an incomplete last character is replaced with."""
        return self._decoder.decode(b"", final=True)


class LineReader:
    r"""Cuts UTF-8 text into lines at "\n", "\r\n" and "\r", as `open` does.

    U+2028, U+0085 and other signs that `str.splitlines` cuts at are text, as JSON Lines has it.
    """

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._begun: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that are complete after `chunk`, without their ends."""
        return self._lines(self._decoder.decode(chunk))

    def finish(self) -> list[str]:
        """Return the last lines; the one before the end of the body may lack its own end."""
        lines = self._lines(self._decoder.decode(b"", final=True))
        last, self._begun = "".join(self._begun), []
        return [*lines, last] if last else lines

    def _lines(self, text: str) -> list[str]:
        first, *others = text.split("\n")
        self._begun.append(first)
        if not others:
            return []
        whole, self._begun = "".join(self._begun), [others.pop()]
        return [whole, *others]
