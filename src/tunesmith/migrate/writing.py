"""Writing an archive so that it can be interrupted at any moment: journal, renames, manifest.

Each file is written under another name and renamed when it is whole; then a line of the journal
says so. What the journal does not name is fetched again. The manifest is made of the journal at
the end, ordered by path, and replaces it. Knows no service.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from tunesmith.core.redact import MASK

from .archive import JOURNAL, MANIFEST, SCHEMA, ArchiveError, Gap
from .secrets import SecretScanner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["ArchiveWriter", "Sink", "json_bytes", "line_bytes", "make_private", "now"]

_PARTIAL = ".partial"
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


def json_bytes(value: object) -> bytes:
    """Return a value as indented JSON, the order of its fields kept."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def line_bytes(value: object) -> bytes:
    """Return a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def now() -> int:
    """Return the time in Unix seconds; SOURCE_DATE_EPOCH replaces it, for builds that compare."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(fixed) if fixed.isdigit() else int(time.time())


class Sink:
    """A file of the archive while it is written: measured and searched for credentials.

    Args:
        path: The file under its temporary name.
        start: Bytes that are there already and are kept.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self._start = start
        self._stream: IO[bytes] | None = None
        self._reset()

    def _reset(self) -> None:
        self.size: int = 0
        self.lines: int = 0
        self.last: bytes = b"\n"
        self.digest: hashlib._Hash = hashlib.sha256()
        self.scanner: SecretScanner = SecretScanner()

    def restart(self) -> None:
        """Begin again: drop what was written, but for the bytes that are kept."""
        self.close()
        self._reset()
        if self._start:
            os.truncate(self._path, self._start)
            with self._path.open("rb") as kept:
                while piece := kept.read(1 << 20):
                    self._measure(piece)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._start else os.O_TRUNC)
        self._stream = os.fdopen(
            os.open(self._path, flags | getattr(os, "O_BINARY", 0), _PRIVATE_FILE), "wb"
        )

    def write(self, piece: bytes) -> None:
        """Add a piece."""
        if self._stream is None:
            self.restart()
        if self._stream is not None:
            self._stream.write(piece)
        self._measure(piece)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._stream is not None:
            self._stream.flush()

    def close(self) -> None:
        """Close the file; `write` opens it again from its beginning."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _measure(self, piece: bytes) -> None:
        self.size += len(piece)
        self.lines += piece.count(b"\n")
        self.last = piece[-1:] or self.last
        self.digest.update(piece)
        self.scanner.feed(piece)


class ArchiveWriter:
    """An archive folder, opened for writing: what it has is known, what is added is journaled.

    Args:
        folder: The folder; it is made, for its owner alone, if it does not exist.
        keys: Credentials that must not get into it: they are masked where a service repeats them.

    Raises:
        ArchiveError: The folder holds something else.
    """

    def __init__(self, folder: Path, keys: Iterable[str] = ()) -> None:
        self.folder = folder
        self._keys = [key.encode() for key in keys if len(key) > 7]  # noqa: PLR2004 - else a word
        self._lock = threading.Lock()
        self.entries: dict[str, dict[str, Any]] = {}
        self.gaps: dict[str, dict[str, Any]] = {}
        self.warnings: dict[str, dict[str, int]] = {}
        self.added: int = 0
        self.added_bytes: int = 0
        self._open()

    def _open(self) -> None:
        existing = {one.name for one in self.folder.iterdir()} if self.folder.exists() else set()
        existing.discard(".lock")
        if existing and not existing & {MANIFEST, JOURNAL, "projects", "recordings", "plan.toml"}:
            raise ArchiveError(
                f"{self.folder} is no archive, and it is not empty. Name a new folder."
            )
        make_private(self.folder)
        self.folder.chmod(_PRIVATE_FOLDER)
        if (self.folder / MANIFEST).exists():
            self._read_manifest()
        self._read_journal()
        self._journal = (self.folder / JOURNAL).open("ab")

    def _read_manifest(self) -> None:
        manifest = json.loads((self.folder / MANIFEST).read_bytes())
        if manifest.get("schema") != SCHEMA:
            raise ArchiveError(f"{self.folder / MANIFEST} is of another version: {SCHEMA} is ours.")
        self.entries = {one["path"]: one for one in manifest["entries"]}
        self.gaps = {one["path"]: one for one in manifest["gaps"]}
        self.warnings = {one["path"]: one["found"] for one in manifest.get("warnings", [])}

    def _read_journal(self) -> None:
        """Add what an interrupted pull has done; a last line that is cut off is dropped."""
        path = self.folder / JOURNAL
        if not path.exists():
            return
        whole = 0
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._apply(json.loads(line))
                whole += len(line)
        os.truncate(path, whole)

    def _apply(self, note: dict[str, Any]) -> None:
        if entry := note.get("entry"):
            self.entries[entry["path"]] = entry
            self.warnings.pop(entry["path"], None)
            if found := note.get("found"):
                self.warnings[entry["path"]] = found
        if gap := note.get("gap"):
            self.gaps[gap["path"]] = gap
        if closed := note.get("closed"):
            self.gaps.pop(closed, None)

    def _note(self, note: dict[str, Any]) -> None:
        with self._lock:
            self._apply(note)
            self._journal.write(line_bytes(note))
            self._journal.flush()

    def has(self, path: str) -> bool:
        """Return whether a file is there, whole as far as its size tells."""
        entry = self.entries.get(path)
        if entry is None or entry["status"] != "ok":
            return False
        try:
            return bool((self.folder / path).stat().st_size == entry["bytes"])
        except OSError:
            return False

    def holds(self, path: str, content: bytes) -> bool:
        """Return whether a file is there with exactly this content."""
        if not self.has(path):
            return False
        known: str = self.entries[path]["sha256"]
        return known == hashlib.sha256(self._masked(content)).hexdigest()

    def gap_status(self, path: str) -> str | None:
        """Return the status of a gap; None if there is none at this path."""
        return self.gaps[path]["status"] if path in self.gaps else None

    def put(self, path: str, content: bytes, remote_id: str | None = None) -> None:
        """Write a small file; nothing is done if it is there with this content."""
        if self.holds(path, content):
            return
        with self.sink(path) as sink:
            sink.write(self._masked(content))
        self.commit(path, sink, remote_id)

    def _masked(self, content: bytes) -> bytes:
        for key in self._keys:
            content = content.replace(key, MASK.encode())
        return content

    def masked_line(self, value: object) -> bytes:
        """Return a value as one line of JSON, without our own keys."""
        return self._masked(line_bytes(value))

    @contextmanager
    def sink(self, path: str, *, resume: bool = False) -> Iterator[Sink]:
        """Open a file under its temporary name, which `commit` renames.

        Args:
            path: The file's place in the archive.
            resume: Keep the whole lines that an interrupted pull left.
        """
        temporary = self._temporary(path)
        make_private(temporary.parent)
        start = _whole_lines(temporary) if resume and temporary.exists() else 0
        sink = Sink(temporary, start)
        sink.restart()
        try:
            yield sink
        except BaseException:
            sink.close()
            if not resume:
                temporary.unlink(missing_ok=True)
            raise
        sink.close()

    def partial(self, path: str) -> Path:
        """Return the temporary file of a path; it is there if a pull was interrupted."""
        temporary = self._temporary(path)
        make_private(temporary.parent)
        return temporary

    def _temporary(self, path: str) -> Path:
        target = self.folder / path
        return target.with_name(f".{target.name}{_PARTIAL}")

    def commit(
        self,
        path: str,
        sink: Sink,
        remote_id: str | None = None,
        remote_bytes: int | None = None,
        *,
        is_text: bool = True,
        status: str = "ok",
    ) -> None:
        """Rename a file that is whole to its name, and note it.

        Args:
            path: Its place in the archive.
            sink: What was written.
            remote_id: Its id at the service.
            remote_bytes: Its size at the service.
            is_text: Whether its lines are counted.
            status: "ok", or "partial" for one that the service did not send whole.
        """
        self._temporary(path).replace(self.folder / path)
        entry = {
            "path": path,
            "sha256": sink.digest.hexdigest(),
            "bytes": sink.size,
            "lines": sink.lines + (sink.last != b"\n") if is_text else None,
            "remote_id": remote_id,
            "remote_bytes": remote_bytes,
            "fetched_at": now(),
            "status": status,
        }
        found = dict(sorted(sink.scanner.finish().items()))
        note: dict[str, Any] = {"entry": entry}
        if found:
            note["found"] = found
        if status == "ok":
            note["closed"] = path
        self._note(note)
        with self._lock:
            self.added += 1
            self.added_bytes += sink.size

    def gap(self, gap: Gap) -> None:
        """Note that something is missing."""
        if self.gaps.get(gap.path) != (content := asdict(gap)):
            self._note({"gap": content})

    def close_gap(self, path: str) -> None:
        """Note that something is no longer missing."""
        if path in self.gaps:
            self._note({"closed": path})

    def copy(self, path: str) -> None:
        """Begin a temporary file with what is there, for a file that grows."""
        if (self.folder / path).exists() and not self._temporary(path).exists():
            copied = self._temporary(f"{path}.copy")
            shutil.copyfile(self.folder / path, copied)
            copied.chmod(_PRIVATE_FILE)
            copied.replace(self._temporary(path))

    def finish(self, head: dict[str, Any]) -> None:
        """Write the manifest, and remove the journal and what was left half written.

        Args:
            head: The fields of the manifest before the gaps.
        """
        self._journal.close()
        for leftover in self.folder.glob(f"projects/**/.*{_PARTIAL}"):
            leftover.unlink()
        target = self.folder / MANIFEST
        temporary = target.with_name(f".{MANIFEST}{_PARTIAL}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as stream:
            for piece in self._manifest(head):
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        (self.folder / JOURNAL).unlink()

    def _manifest(self, head: dict[str, Any]) -> Iterator[bytes]:
        """Yield the manifest: one line for each gap, warning and entry, ordered by path."""
        yield json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}").encode()
        warnings = {path: {"path": path, "found": found} for path, found in self.warnings.items()}
        for name, values in (
            ("warnings", warnings),
            ("gaps", self.gaps),
            ("entries", self.entries),
        ):
            yield f',\n "{name}": ['.encode()
            for at, path in enumerate(sorted(values)):
                line = json.dumps(values[path], ensure_ascii=False)
                yield f"{',' if at else ''}\n  {line}".encode("utf-8", "surrogatepass")
            yield b"\n ]" if values else b"]"
        yield b"\n}\n"

    def stop(self) -> None:
        """Close the journal and leave it for the next pull, if there is anything in it."""
        self._journal.close()
        path = self.folder / JOURNAL
        if path.exists() and not path.stat().st_size:
            path.unlink()


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for their owner alone."""
    if not folder.exists():
        make_private(folder.parent)
        folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)


def _whole_lines(path: Path) -> int:
    """Return the size of a file up to its last line end."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        position = size
        while position > 0:
            start = max(0, position - (1 << 16))
            stream.seek(start)
            piece = stream.read(position - start)
            if (found := piece.rfind(b"\n")) >= 0:
                return start + found + 1
            position = start
    return 0
