"""A journal of finished requests, one JSON line each, so that a long run can be resumed.

An incomplete line, left by a crash, is ignored. A line is used only for the same request:
each has a digest of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Journal"]


class Journal:
    """Responses by the index and digest of their request."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._done = dict(_entries(self._path))
        try:
            self._file = self._path.open("ab")
        except OSError as error:
            raise TunesmithError(f"The journal {path} cannot be written: {error}.") from error
        if self._file.tell() and not self._path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")

    def get(self, index: int, request: Mapping[str, Any]) -> str | None:
        """Return the JSON of a response from an earlier run, or None."""
        return self._done.get((index, _digest(request)))

    def put(self, index: int, request: Mapping[str, Any], response: str) -> None:
        """Add a response, given as JSON."""
        entry = {"index": index, "request": _digest(request), "answer": json.loads(response)}
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Write everything to the disk and close the file."""
        os.fsync(self._file.fileno())
        self._file.close()


def _digest(request: Mapping[str, Any]) -> str:
    """Return a hash that identifies a request."""
    text = json.dumps(request, sort_keys=True, default=str).encode()
    return hashlib.sha256(text).hexdigest()[:32]


def _entries(path: Path) -> list[tuple[tuple[int, str], str]]:
    if not path.exists():
        return []
    entries: list[tuple[tuple[int, str], str]] = []
    with path.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                entries.append(((entry["index"], entry["request"]), json.dumps(entry["answer"])))
            except (ValueError, KeyError, TypeError):
                continue
    return entries
