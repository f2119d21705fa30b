"""The check of a job's files before it is queued."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.engine.domain.errors import CorruptFileError
from tunesmith.engine.store import file_queries
from tunesmith.engine.store.blobs import BlobStore

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

__all__ = ["JobFault", "data_path", "find_fault"]


@dataclass(frozen=True, slots=True)
class JobFault:
    """Why a job cannot be trained, as its field `error` on the wire."""

    code: str
    message: str
    param: str


def find_fault(database: Database, home: Home, job: JobRow) -> JobFault | None:
    """Return the first error in the job's training file, then in its validation file.

    Also compares the contents with their hashes, and links them into the job's folder.
    """
    file_ids = {"training_file": job.training_file, "validation_file": job.validation_file}
    blobs = BlobStore(home.files)
    for param, file_id in file_ids.items():
        if file_id is None:
            continue
        with database.read() as connection:
            file = file_queries.get(connection, job.organization, file_id)
        if file is None:
            return JobFault("file_not_found", f"The file {file_id} has been deleted.", param)
        try:
            path = place_data(home, job, param, blobs.verified(file.sha256))
        except CorruptFileError as error:
            return JobFault("file_corrupt", str(error), param)
        error_text = _first_error(path, job)
        if error_text is not None:
            kind = param.replace("_", " ")
            message = f"The {kind} {file.filename!r} ({file.id}) cannot be used: {error_text}"
            return JobFault(f"invalid_{param}", message, param)
    return None


def data_path(home: Home, job: JobRow, param: str) -> Path:
    """Return the path, in the job's folder, of a file's content."""
    return home.job(job.id) / "data" / f"{param.removesuffix('_file')}.jsonl"


def place_data(home: Home, job: JobRow, param: str, content: Path) -> Path:
    """Link a file's content into the job's folder and return its path there.

    The name says the format, and the job keeps the content if the file is deleted.
    """
    path = data_path(home, job, param)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.hardlink_to(content)
    except OSError:  # a file system without hard links
        shutil.copyfile(content, path)
    return path


def _first_error(path: Path, job: JobRow) -> str | None:
    from tunesmith.datasets import check_file  # noqa: PLC0415 - only this process needs it

    report = check_file(path, "engine", shape="preference" if job.method == "dpo" else None)
    return None if report.ok else str(report.first_error())
