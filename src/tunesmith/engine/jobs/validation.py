"""The check of a job's files before it may wait for its turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.engine.errors import CorruptFileError
from tunesmith.engine.store import file_rows
from tunesmith.engine.store.blobs import BlobStore

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

__all__ = ["JobFault", "find_fault"]


@dataclass(frozen=True, slots=True)
class JobFault:
    """Why a job cannot be trained: the parts of its `error`."""

    code: str
    message: str
    param: str


def find_fault(database: Database, home: Home, job: JobRow) -> JobFault | None:
    """Return the first error in the job's training file, then in its validation file.

    Contents are compared with their hashes on the way.
    """
    wanted = {"training_file": job.training_file, "validation_file": job.validation_file}
    blobs = BlobStore(home.files)
    for param, file_id in wanted.items():
        if file_id is None:
            continue
        with database.read() as connection:
            file = file_rows.get(connection, job.organization, file_id)
        if file is None:
            return JobFault("file_not_found", f"The file {file_id} has been deleted.", param)
        try:
            words = _first_error(blobs.verified(file.sha256), job)
        except CorruptFileError as error:
            return JobFault("file_corrupt", str(error), param)
        if words is not None:
            kind = param.replace("_", " ")
            message = f"The {kind} {file.filename!r} ({file.id}) cannot be used: {words}"
            return JobFault(f"invalid_{param}", message, param)
    return None


def _first_error(path: Path, job: JobRow) -> str | None:
    try:
        from tunesmith.datasets import check_file  # noqa: PLC0415 - only this process needs it
    except ImportError:
        return None

    shape = "preference" if job.method == "dpo" else None
    report = check_file(path, profile="engine", shape=shape)
    return None if report.ok else str(report.first_error())
