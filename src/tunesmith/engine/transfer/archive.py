"""Packs an exported folder into one tar file, the form in which it goes over HTTP.

The archive is not compressed: weights do not get smaller. It names no user and no time of this
machine. Each file is removed once it is packed, so the disk holds the weights once, and the
largest file twice.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Archive", "write_archive"]

_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive: its size in bytes, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def write_archive(folder: Path, target: Path, name: str) -> Archive:
    """Move the files of `folder` into the new tar file `target`, in a folder called `name`.

    Raises:
        OSError: The disk is full, or a file cannot be read.
    """
    with target.open("xb") as file:
        output = _HashingWriter(file)
        # A stream is written front to back, so its hash is known at the end.
        with tarfile.open(
            fileobj=cast("IO[bytes]", output), mode="w|", format=tarfile.PAX_FORMAT
        ) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                member = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
                member.size, member.mode = path.stat().st_size, _FILE_MODE
                with path.open("rb") as content:
                    archive.addfile(member, content)
                path.unlink()
        file.flush()
        os.fsync(file.fileno())
    return Archive(output.bytes, output.sha256.hexdigest())


class _HashingWriter:
    """A file to write to that knows the hash of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bytes = 0
        self.sha256: Any = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        return self._file.write(data)
