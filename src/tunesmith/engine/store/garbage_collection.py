"""Removes what has expired: files, uploads, completions, exports; and what nothing refers to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tunesmith.disk_space import folder_bytes
from tunesmith.engine.domain.job import TERMINAL_STATUSES

from . import export_queries, file_queries, stored_completion_queries, upload_queries
from .blobs import BlobStore
from .removal import remove, set_aside
from .schema import files, jobs, models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tunesmith.engine.home import Home

    from .database import Database

__all__ = ["Garbage", "Removed", "collect_garbage", "find_garbage"]

_MIN_AGE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Garbage:
    """Files and folders of one kind that nothing refers to.

    Attributes:
        kind: What they are, for people.
        paths: Where they are.
        bytes: What they take.
    """

    kind: str
    paths: tuple[Path, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Removed:
    """The result: `bytes` in `places` files and folders were removed."""

    places: int
    bytes: int


def collect_garbage(home: Home, database: Database) -> Removed:
    """Remove what no file, model or unfinished job refers to. Safe while a server runs.

    Of an ended job its log, its specification and the checkpoints that are models are kept.
    """
    with database.write() as connection:
        _forget_expired(connection)
    with database.write() as connection:
        garbage = _garbage(home, connection)
        aside = [set_aside(path) for one in garbage for path in one.paths]
    for path in aside:
        if path is not None:
            remove(path)
    return Removed(len(aside), sum(one.bytes for one in garbage))


def find_garbage(home: Home, database: Database) -> list[Garbage]:
    """Return what `collect_garbage` would remove now, by kind, and remove nothing."""
    with database.write() as connection:
        _forget_expired(connection)
        found = _garbage(home, connection)
        connection.rollback()
    return found


def _forget_expired(connection: Connection) -> None:
    for row in file_queries.expired(connection, time.time()):
        file_queries.remove(connection, row.id)
    upload_queries.remove_expired(connection, time.time())
    stored_completion_queries.remove_expired(connection, time.time())
    export_queries.remove_expired(connection, time.time())


def _garbage(home: Home, connection: Connection) -> list[Garbage]:
    kinds = {
        "contents of deleted or expired files": _orphaned_contents(home, connection),
        "parts of uploads that have ended": _ended_uploads(home, connection),
        "deleted or expired exports": _deleted_exports(home, connection),
        "temporary files of ended jobs": _job_leftovers(home, connection),
        "deleted models": _orphaned_models(home, connection),
    }
    found: list[Garbage] = []
    for kind, places in kinds.items():
        if paths := tuple(places):
            found.append(Garbage(kind, paths, sum(map(_size, paths))))
    return found


def _orphaned_contents(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield contents of files that were deleted or whose upload was interrupted."""
    known = set(connection.execute(select(files.c.sha256)).scalars())
    cutoff = time.time() - _MIN_AGE_SECONDS
    for path in BlobStore(home.files).all_paths():
        if path.name not in known and path.stat().st_mtime < cutoff:
            yield path


def _ended_uploads(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield folders of uploads that were completed, were cancelled or have expired."""
    pending = upload_queries.pending_ids(connection)
    for folder in _children(home.uploads):
        if folder.name not in pending:
            yield folder


def _deleted_exports(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield folders of exports that were deleted or have expired."""
    known = export_queries.ids(connection)
    for folder in _children(home.exports):
        if folder.name not in known:
            yield folder


def _job_leftovers(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield data and resume checkpoints of ended jobs, and folders of unknown jobs."""
    rows = connection.execute(select(jobs.c.id, jobs.c.status))
    status: dict[str, str] = {row.id: row.status for row in rows}
    leased = set(
        connection.execute(select(jobs.c.id).where(jobs.c.worker_id.is_not(None))).scalars()
    )
    used = {home.root / path for path in connection.execute(select(models.c.path)).scalars()}
    for folder in _children(home.jobs):
        if folder.name not in status:
            yield folder
        elif status[folder.name] in TERMINAL_STATUSES and folder.name not in leased:
            yield from _children(folder / "data")
            for path in _children(folder / "work"):
                if path.name != "snapshots":
                    yield path
            for path in _children(folder / "work" / "snapshots"):
                if path not in used:
                    yield path


def _orphaned_models(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield folders of models that were deleted or whose jobs did not succeed."""
    used = {home.root / path for path in connection.execute(select(models.c.path)).scalars()}
    unfinished = jobs.c.status.not_in(TERMINAL_STATUSES) | jobs.c.worker_id.is_not(None)
    unfinished_jobs = set(connection.execute(select(jobs.c.id).where(unfinished)).scalars())
    for folder in _children(home.models):
        if folder not in used and folder.name not in unfinished_jobs:
            yield folder


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return folder_bytes(path)
