"""`-t` and `-v`: an id of an uploaded file, a path, or a URL.

A path is uploaded, unless the server already holds a file of the same name, size and
content; then that one is used again, so that a repeated command does not fill the server.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.errors import TunesmithError

from .output import say

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.types.files import FileObject

__all__ = ["resolve_file"]

PURPOSE = "fine-tune"
CHUNK = 1 << 20


def resolve_file(client: Client, given: str, *, check_existing: bool = True) -> str:
    """Return the id of the file that was named, uploading it if need be.

    Args:
        client: Where to.
        given: What stands on the command line: an id, a path or a URL.
        check_existing: Look for an identical file on the server before uploading.

    Raises:
        TunesmithError: It is none of the three, or cannot be read.
    """
    if urlsplit(given).scheme in ("http", "https"):
        return _upload_from_url(client, given, check_existing=check_existing)
    path = Path(given).expanduser()
    if path.is_file():
        return _upload(client, path, check_existing=check_existing)
    if given.startswith("file-") and os.sep not in given:
        return given
    if path.is_dir():
        raise TunesmithError(f"{given} is a folder; name the JSONL file in it.")
    raise TunesmithError(
        f"There is no file {given!r} here. Give a path to a JSONL file, a URL, or the id of an "
        "uploaded file (file-…, see: tunesmith api files.list)."
    )


def _upload(client: Client, path: Path, *, check_existing: bool) -> str:
    existing = _identical(client, path) if check_existing else None
    if existing and _wants_existing(existing, path):
        say(f"Using {existing.id}: the server already holds {path.name} with this content.")
        return existing.id
    with path.open("rb") as stream:
        uploaded = client.files.create(file=stream, purpose=PURPOSE)
    say(f"Uploaded {path} as {uploaded.id}.")
    return uploaded.id


def _identical(client: Client, path: Path) -> FileObject | None:
    """Return an uploaded file of the same name, size and content."""
    size = path.stat().st_size
    digest: str | None = None
    for file in client.files.list(purpose=PURPOSE):
        if file.filename != path.name or file.bytes != size:
            continue
        digest = digest or _sha256(path)
        if hashlib.sha256(client.files.content(file.id).read()).hexdigest() == digest:
            return file
    return None


def _wants_existing(existing: FileObject, path: Path) -> bool:
    """Ask on a terminal; in a script an identical file is simply used again."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    say(f"The server already holds {path.name} with this content, as {existing.id}.")
    print("Use it instead of uploading again? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() not in ("n", "no")


def _upload_from_url(client: Client, url: str, *, check_existing: bool) -> str:
    from tunesmith.transport.download import fetch_url

    name = Path(urlsplit(url).path).name or "training.jsonl"
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        path = Path(folder, name)
        fetch_url(url, path)
        return _upload(client, path, check_existing=check_existing)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
