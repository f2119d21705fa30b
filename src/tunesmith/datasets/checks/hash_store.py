"""Two 64-bit hashes for each row, in memory while they are few, in temporary files beyond that.

So the memory of a check does not grow with the data. Stores are joined in the order of their rows.
"""

from __future__ import annotations

import tempfile
import weakref
from array import array
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HashStore"]

_IN_MEMORY: Final = 1 << 18
_READ_AT_ONCE: Final = 1 << 17
_BYTES: Final = 8


class HashStore:
    """Hashes of inputs and of whole rows, in the order of the rows."""

    def __init__(self) -> None:
        self.count: int = 0
        self._inputs = array("q")
        self._rows = array("q")
        self._files: tuple[IO[bytes], IO[bytes]] | None = None

    def extend(self, inputs: bytes, rows: bytes) -> None:
        """Append the hashes of some rows, eight bytes each."""
        self.count += len(rows) // _BYTES
        self._inputs.frombytes(inputs)
        self._rows.frombytes(rows)
        if len(self._rows) > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._files is None:
            self._files = (tempfile.TemporaryFile(), tempfile.TemporaryFile())  # noqa: SIM115
            for file in self._files:
                weakref.finalize(self, file.close)
        self._inputs.tofile(self._files[0])
        self._rows.tofile(self._files[1])
        self._inputs, self._rows = array("q"), array("q")

    def join(self, following: HashStore) -> None:
        """Append the hashes of another store."""
        for inputs, rows in following.parts():
            self.extend(inputs.tobytes(), rows.tobytes())

    def parts(self) -> Iterator[tuple[array[int], array[int]]]:
        """Yield all hashes, some rows at a time."""
        if self._files is not None:
            for file in self._files:
                file.seek(0)
            while inputs := self._files[0].read(_READ_AT_ONCE * _BYTES):
                yield array("q", inputs), array("q", self._files[1].read(_READ_AT_ONCE * _BYTES))
            for file in self._files:
                file.seek(0, 2)
        if self._rows:
            yield self._inputs, self._rows

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the hashes themselves: a temporary file belongs to its process."""
        return {"parts": list(self.parts())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the hashes that were pickled."""
        HashStore.__init__(self)
        for inputs, rows in state["parts"]:
            self.extend(inputs.tobytes(), rows.tobytes())
