"""Decompression of gzip and deflate bodies that tells a whole body from one that was cut off."""

from __future__ import annotations

import zlib

__all__ = ["CutOffError", "Inflater"]

_AUTOMATIC = zlib.MAX_WBITS | 32
_RAW = -zlib.MAX_WBITS
_GZIP_START = b"\x1f\x8b"


class CutOffError(ValueError):
    """A compressed body ends before its end mark."""


class Inflater:
    """Decompresses one body, chunk by chunk: gzip with one or more members, zlib or raw deflate.

    Args:
        encoding: The value of `Content-Encoding`: gzip, x-gzip or deflate.
    """

    def __init__(self, encoding: str) -> None:
        self._may_be_raw = encoding == "deflate"
        self._decoder = zlib.decompressobj(_AUTOMATIC)
        self._started = False

    def feed(self, chunk: bytes) -> bytes:
        """Return what a chunk decompresses to.

        Raises:
            zlib.error: The body is not compressed like this.
        """
        if not self._started:
            self._started = bool(chunk)
            try:
                return self._all(chunk)
            except zlib.error:
                if not self._may_be_raw:
                    raise
                # Some servers send deflate without the header that the standard asks for.
                self._decoder = zlib.decompressobj(_RAW)
        return self._all(chunk)

    def finish(self) -> bytes:
        """Return the rest.

        Raises:
            CutOffError: The body's end is missing.
        """
        if self._started and not self._decoder.eof:
            raise CutOffError("the compressed body ends before its end mark")
        return b""

    def _all(self, chunk: bytes) -> bytes:
        pieces = []
        while chunk:
            if self._decoder.eof:
                if not chunk.startswith(_GZIP_START):
                    break  # padding
                self._decoder = zlib.decompressobj(_AUTOMATIC)
            pieces.append(self._decoder.decompress(chunk))
            chunk = self._decoder.unused_data
        return b"".join(pieces)
