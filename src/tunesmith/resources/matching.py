"""Is this local file on the server already? Name, size and purpose, and the hash where known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tunesmith.transport.upload import FileSource
from tunesmith.types.files import FileObject

__all__ = ["identical_file"]


def identical_file(
    source: FileSource, files: Iterable[FileObject], purpose: str
) -> FileObject | None:
    """Return the first of `files` that holds what `source` holds, or None."""
    length = source.length
    if length is None or not source.replayable:
        return None
    digest: str | None = None
    for file in files:
        if (file.filename, file.bytes, file.purpose) != (source.name, length, purpose):
            continue
        if file.status not in {"processed", "uploaded"}:
            continue
        known = getattr(file, "sha256", None)
        if known is None:
            return file
        digest = digest or _sha256(source)
        if known == digest:
            return file
    return None


def _sha256(source: FileSource) -> str:
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return digest.hexdigest()
