"""How one project is read into an archive: whole lists, gaps for what is missing, progress.

What is read, and to which place it goes, is not known here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import Flow, gather
from tunesmith.errors import APIError, AuthenticationError

from .archive import Gap, folder_name
from .remote import Remote, reason_of, status_of

if TYPE_CHECKING:
    from .sources import Source
    from .writing import ArchiveWriter

__all__ = ["PAGE", "RETRIED", "Progress", "ProjectReader"]

PAGE = 100
RETRIED = frozenset({"partial", "forbidden"})
"""Kinds of gaps for which a further pull asks again."""

Progress = Callable[[str, int, int], None]


class ProjectReader:
    """Reads one project into an archive.

    Args:
        source: Where it is read.
        writer: Where it is written.
        workers: Flows at a time.
        on_progress: The user's function.
    """

    def __init__(
        self, source: Source, writer: ArchiveWriter, workers: int, on_progress: Progress | None
    ) -> None:
        self._remote: Remote = source.remote
        self._writer = writer
        self._workers = max(1, workers)
        self._progress = on_progress
        self._done: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._folder = f"projects/{folder_name(source.project)}"

    def _said(self, what: str, total: int = 0) -> None:
        with self._lock:
            self._done[what] += 1
            done = self._done[what]
        if self._progress is not None:
            self._progress(what, done, total)

    def _each(self, flows: Iterator[Flow[None]]) -> Flow[None]:
        yield from gather(flows, self._workers)

    def _missing(self, path: str, remote_id: str, what: str, error: APIError, **more: Any) -> None:
        """Note a gap for an error.

        Raises:
            AuthenticationError: The key is refused: nothing more could be read.
        """
        if isinstance(error, AuthenticationError):
            raise error
        status = status_of(error, more.get("expires_at"))
        code, message = reason_of(error)
        self._writer.gap(Gap(path, remote_id, what, status, code, message))

    def _has(self, path: str) -> bool:
        return self._writer.has(path)

    def _list(
        self,
        path: str,
        take: Callable[[list[dict[str, Any]]], Flow[None]],
        place: str,
        what: str,
        **options: Any,
    ) -> Flow[bool]:
        """Read a list; return whether it was read to its end. Otherwise it is a gap."""
        gap = f"{self._folder}/{place}"
        try:
            listing = yield from self._remote.pages(path, take, **options)
        except APIError as error:
            self._missing(gap, path, what, error)
            return False
        if listing.problem is not None:
            self._writer.gap(Gap(gap, path, what, "partial", None, listing.problem))
            return False
        if self._writer.gap_status(gap) is not None:
            self._writer.close_gap(gap)
        return True

    def _sublist(
        self,
        address: str,
        take: Callable[[list[dict[str, Any]]], Flow[None]],
        place: str,
        remote_id: str,
        what: str,
    ) -> Flow[bool]:
        """Read a list that belongs to one object; return as `_list` does."""
        try:
            listing = yield from self._remote.pages(address, take, limit=PAGE)
        except APIError as error:
            self._missing(place, remote_id, what, error)
            return False
        if listing.problem is not None:
            self._writer.gap(Gap(place, remote_id, what, "partial", None, listing.problem))
        return listing.problem is None
