"""Removing what nobody needs: expired files, orphaned contents, the workings of ended jobs."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from . import file_queries
from .blobs import BlobStore
from .records import TERMINAL
from .schema import files, jobs, models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tunesmith.engine.home import Home

    from .database import Database

__all__ = ["Removed", "collect_garbage"]

_YOUNG_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed: `bytes` in `places` files and folders."""

    places: int
    bytes: int


def collect_garbage(home: Home, database: Database) -> Removed:
    """Remove what no file, model or unfinished job refers to. Safe while a server runs.

    Kept of an ended job are its log, its specification, and the checkpoints that are models.
    """
    with database.write() as connection:
        for row in file_queries.expired(connection, time.time()):
            file_queries.remove(connection, row.id)
    with database.write() as connection:
        rubbish = [
            *_contents(home, connection),
            *_workings(home, connection),
            *_models(home, connection),
        ]
        size = sum(map(_size, rubbish))
        for path in rubbish:
            _remove(path)
    return Removed(len(rubbish), size)


def _contents(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield contents of files that have been deleted or were never finished."""
    known = set(connection.execute(select(files.c.sha256)).scalars())
    old = time.time() - _YOUNG_SECONDS
    for path in BlobStore(home.files).everything():
        if path.name not in known and path.stat().st_mtime < old:
            yield path


def _workings(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield data and resume checkpoints of ended jobs, and folders of jobs that are no more."""
    rows = connection.execute(select(jobs.c.id, jobs.c.status))
    status: dict[str, str] = {row.id: row.status for row in rows}
    held = set(connection.execute(select(jobs.c.id).where(jobs.c.worker_id.is_not(None))).scalars())
    used = {home.root / path for path in connection.execute(select(models.c.path)).scalars()}
    for folder in _children(home.jobs):
        if folder.name not in status:
            yield folder
        elif status[folder.name] in TERMINAL and folder.name not in held:
            yield from _children(folder / "data")
            for path in _children(folder / "work"):
                if path.name != "snapshots":
                    yield path
            for path in _children(folder / "work" / "snapshots"):
                if path not in used:
                    yield path


def _models(home: Home, connection: Connection) -> Iterator[Path]:
    """Yield folders of models that were deleted, or whose jobs ended otherwise."""
    used = {home.root / path for path in connection.execute(select(models.c.path)).scalars()}
    unfinished = jobs.c.status.not_in(TERMINAL) | jobs.c.worker_id.is_not(None)
    making = set(connection.execute(select(jobs.c.id).where(unfinished)).scalars())
    for folder in _children(home.models):
        if folder not in used and folder.name not in making:
            yield folder


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
