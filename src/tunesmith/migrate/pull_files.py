"""The files of a project: those that its list has, and those that something names.

A file's object and its content are archived apart; a content that is short or gone is a gap.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from tunesmith.core.request import fill_path
from tunesmith.disk_space import require_space
from tunesmith.errors import APIError

from .archive import Gap, folder_name
from .project_reader import RETRIED, Progress, ProjectReader
from .writing import json_bytes

if TYPE_CHECKING:
    from tunesmith.core.flow import Flow

    from .sources import Source
    from .writing import ArchiveWriter

__all__ = ["FilePull"]

_FILE_PAGE = 1000
_JSON_LINES = frozenset({"fine-tune", "batch", "batch_output", "evals"})


class FilePull(ProjectReader):
    """The files of one project while it is pulled; the arguments are those of `ProjectReader`."""

    def __init__(
        self, source: Source, writer: ArchiveWriter, workers: int, on_progress: Progress | None
    ) -> None:
        super().__init__(source, writer, workers, on_progress)
        self._known: set[str] = set()
        self._wanted: dict[str, str] = {}

    def want(self, file: Any, what: str) -> None:
        """Remember that something names a file."""
        identity = file.get("id") if isinstance(file, dict) else file
        if isinstance(identity, str) and identity:
            self._wanted.setdefault(identity, what)

    def pull_listed(self) -> Flow[None]:
        """Fetch the files that the list has."""
        work: list[dict[str, Any]] = []

        def take(files: list[dict[str, Any]]) -> Flow[None]:
            for file in files:
                self._known.add(file["id"])
                if (needed := self._file(file)) is not None:
                    work.append(needed)
            yield from ()

        yield from self._list("/files", take, "files", "files", limit=_FILE_PAGE)
        require_space(self._writer.folder, sum(one["bytes"] for one in work), "archive the files")
        total = len(work)
        yield from self._each(self._content(one, total) for one in work)

    def _file(self, file: dict[str, Any]) -> dict[str, Any] | None:
        """Write a file's object; return what its content needs, None if that is there or gone."""
        folder = f"{self._folder}/files/{folder_name(str(file['id']))}"
        unchanged = self._writer.holds(f"{folder}/meta.json", content := json_bytes(file))
        if not unchanged:
            self._writer.put(f"{folder}/meta.json", content, str(file["id"]))
        if self._writer.gap_status(f"{folder}/meta.json") is not None:
            self._writer.close_gap(f"{folder}/meta.json")
        path = f"{folder}/{_content_name(file)}"
        status = self._writer.gap_status(path)
        if self._has(path):
            if not self._has(_table_of(path)):  # a pull may have ended before it was written
                self._decode_results(path, str(file["id"]))
            return None
        if unchanged and status is not None and status not in RETRIED:
            return None
        size = file.get("bytes")
        return {
            "id": str(file["id"]),
            "path": path,
            "bytes": size if isinstance(size, int) else 0,
            "expires_at": file.get("expires_at"),
        }

    def _content(self, one: dict[str, Any], total: int) -> Flow[None]:
        """Fetch a file's content; what is shorter than its object says is tried once more."""
        path, file_id, size = one["path"], one["id"], one["bytes"]
        address = fill_path("/files/{file_id}/content", file_id=file_id)
        try:
            with self._writer.sink(path) as sink:
                for _ in range(2):
                    yield from self._remote.download(address, sink.write, sink.restart)
                    if sink.size == size or not size:
                        break
        except APIError as error:
            self._missing(path, file_id, "file content", error, expires_at=one["expires_at"])
            self._said("files", total)
            return
        whole = sink.size == size or not size
        is_text = not path.endswith(".bin")
        status = "ok" if whole else "partial"
        remote_bytes = size or None
        self._writer.commit(path, sink, file_id, remote_bytes, is_text=is_text, status=status)
        if not whole:
            message = f"The service sent {sink.size:,} of the {size:,} bytes that it names."
            self._writer.gap(Gap(path, file_id, "file content", "partial", 200, message))
        if _table_of(path) != path:
            self._decode_results(path, file_id)
        self._said("files", total)

    def _decode_results(self, path: str, file_id: str) -> None:
        """Write a result file's table beside it; the service sends some in base64."""
        content = (self._writer.folder / path).read_bytes()
        first = content.partition(b"\n")[0]
        if b"," not in first:
            try:
                content = base64.b64decode(b"".join(content.split()), validate=True)
            except binascii.Error:
                return
        self._writer.put(_table_of(path), content, file_id)

    def pull_unlisted(self) -> Flow[None]:
        """Ask for each file that something names and the list does not have."""
        unknown = sorted(self._wanted.keys() - self._known)
        yield from self._each(self._unlisted(one) for one in unknown)

    def _unlisted(self, file_id: str) -> Flow[None]:
        path = f"{self._folder}/files/{folder_name(file_id)}/meta.json"
        status = self._writer.gap_status(path)
        if status is not None and status not in RETRIED:
            return
        try:
            file = yield from self._remote.get(fill_path("/files/{id}", id=file_id))
        except APIError as error:
            if not self._has(path):
                self._missing(path, file_id, f"file of a {self._wanted[file_id]}", error)
            return
        if (needed := self._file(file)) is not None:
            yield from self._content(needed, 0)


def _table_of(path: str) -> str:
    """Return the place of a result file's table; of any other content, its own."""
    return f"{path.removesuffix('.raw')}.csv" if path.endswith("/results.raw") else path


def _content_name(file: dict[str, Any]) -> str:
    """Return the name of a file's content in the archive."""
    purpose, name = file.get("purpose"), str(file.get("filename") or "")
    if purpose == "fine-tune-results":
        return "results.raw"
    return "content.jsonl" if purpose in _JSON_LINES or name.endswith(".jsonl") else "content.bin"
