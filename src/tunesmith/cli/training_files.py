"""`-t` and `-v`: the id of an uploaded file, a path, or a URL.

A path is uploaded by the SDK, which sends the prompt format beside it. If the server already
has an identical file, that one is used, so that a repeated command does not fill the server.
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

from .output import print_notice

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.types.files import FileObject

__all__ = ["resolve_file"]

PURPOSE = "fine-tune"
_BYTES_TO_CHECK = 4096
# Binary files, and text that may hold zero bytes (UTF-16), from which training data is made.
_CONVERTIBLE = {".xlsx", ".parquet", ".pq", ".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl"}


def resolve_file(client: Client, value: str, *, check_existing: bool = True) -> str:
    """Return the id of a training or validation file, uploading it if it is a path or a URL.

    Args:
        client: The client to upload with.
        value: An id, a path or a URL.
        check_existing: Look for an identical file on the server before uploading.

    Raises:
        TunesmithError: It is none of the three, or cannot be read.
    """
    if urlsplit(value).scheme in ("http", "https"):
        return _upload_from_url(client, value, check_existing=check_existing)
    path = Path(value).expanduser()
    if path.is_file():
        return _upload(client, path, check_existing=check_existing)
    if value.startswith("file-") and os.sep not in value:
        return value
    if path.is_dir():
        raise TunesmithError(f"{value} is a folder; name the JSONL file in it.")
    raise TunesmithError(
        f"There is no file {value!r} here. Give a path to a JSONL file, a URL, or the id of an "
        "uploaded file (file-…, see: tunesmith api files.list)."
    )


def _upload(client: Client, path: Path, *, check_existing: bool) -> str:
    _require_json_lines(path)
    existing = _identical(client, path) if check_existing else None
    if existing and _wants_existing(existing, path):
        return existing.id
    uploaded = client.files.create(file=path, purpose=PURPOSE)
    print_notice(f"Uploaded {path} as {uploaded.id}.")
    return uploaded.id


def _require_json_lines(path: Path) -> None:
    """Refuse a file that does not begin with a JSON object: it would fail after the upload."""
    with path.open("rb") as stream:
        beginning = stream.read(_BYTES_TO_CHECK).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not beginning:
        raise TunesmithError(f"The file {path} is empty.")
    if b"\0" in beginning and path.suffix.lower() not in _CONVERTIBLE:
        raise TunesmithError(
            f"{path} is no text, so nothing can be learned from it. Training data is JSONL (one "
            "JSON object per line), or a table, a workbook or JSON that is converted to it."
        )
    if not beginning.startswith(b"{"):
        raise TunesmithError(
            f"{path} is not JSONL (one JSON object per line). Convert a table, a spreadsheet or a "
            f"JSON array with: tunesmith tools fine_tunes.prepare_data -f {path}"
        )


def _identical(client: Client, path: Path) -> FileObject | None:
    """Return an identical file on the server, or None."""
    found = client.files.find_matching(path, purpose=PURPOSE)
    if found is None or (found.model_extra or {}).get("sha256"):
        return found
    # This server reports no hashes, so only name and size were compared.
    content = client.files.content(found.id).read()
    return found if hashlib.sha256(content).hexdigest() == _sha256(path) else None


def _wants_existing(existing: FileObject, path: Path) -> bool:
    """Ask on a terminal; a script uses the identical file."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        print_notice(
            f"Using {existing.id}: the server already holds {path.name} with this content."
        )
        return True
    print_notice(f"The server already holds {path.name} with this content, as {existing.id}.")
    print("Use it instead of uploading again? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() not in ("n", "no")


def _upload_from_url(client: Client, url: str, *, check_existing: bool) -> str:
    from tunesmith.downloads.http import download_url

    name = Path(urlsplit(url).path).name or "training.jsonl"
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        path = Path(folder, name)
        download_url(url, path)
        return _upload(client, path, check_existing=check_existing)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
