"""Content-addressed storage of files: each content is stored under its SHA-256.

A content is written to `incoming/`, flushed to the disk and renamed, so a file under a hash
is complete. Its hash is verified each time it is opened. Which contents belong to which
files and organisations is in the database; this module does not know it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Self

from tunesmith.engine.domain.errors import CorruptFileError

from .removal import set_aside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["BlobStore", "IncomingBlob"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class IncomingBlob:
    """A content that is being written: `write`, then `seal`, then `BlobStore.keep`.

    As a context manager it removes the content unless it was kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes: int = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("xb")

    @property
    def sha256(self) -> str:
        """Hash of the bytes written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def seal(self) -> None:
        """Flush the content to the disk; nothing can be written afterwards."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class BlobStore:
    """The folder of contents.

    Args:
        root: The folder; created on first use.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def incoming(self) -> IncomingBlob:
        """Open a new content for writing."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        return IncomingBlob(self._incoming / secrets.token_hex(16))

    def add(self, source: Path) -> IncomingBlob:
        """Copy the file at `source` in and seal it."""
        blob = self.incoming()
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                blob.write(chunk)
        blob.seal()
        return blob

    def keep(self, blob: IncomingBlob) -> None:
        """Store a sealed content. Call it in the transaction that adds the file's row.

        It replaces what is stored under its hash: the same bytes, or bytes that have been damaged
        on the disk since.
        """
        target = self.path(blob.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        blob.path.replace(target)
        _flush_folder(target.parent)

    def path(self, sha256: str) -> Path:
        """Return the path of the content with this hash, whether or not it exists."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256 hash: {sha256!r}")
        return self.root / sha256[:2] / sha256

    def verified(self, sha256: str) -> Path:
        """Return the path of a content after verifying its hash.

        Raises:
            CorruptFileError: The content is missing or has changed on disk.
        """
        path = self.path(sha256)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise CorruptFileError(
                "The content of this file is missing from the engine's folder of files. "
                "Upload the file again."
            ) from error
        if found != sha256:
            raise CorruptFileError(
                "The content of this file has changed on the engine's disk since it was uploaded. "
                "Upload the file again."
            )
        return path

    def all_paths(self) -> Iterator[Path]:
        """Yield every stored content, including those of interrupted uploads."""
        yield from (path for path in self.root.glob("*/*") if path.is_file())

    def set_aside(self, sha256: str) -> Path | None:
        """Rename a content that no row refers to. Call it in a write transaction.

        Returns:
            What is to be removed after the transaction (`removal.remove`), if there is something.
        """
        return set_aside(self.path(sha256))

    def clear_incoming(self) -> None:
        """Remove what interrupted uploads have left. Call it at the server's start."""
        with suppress(FileNotFoundError):
            for path in self._incoming.iterdir():
                path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
