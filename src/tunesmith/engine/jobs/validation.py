"""The check of a job's files before it is queued."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.engine.domain.errors import CorruptFileError, TrainingError
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.store import file_queries
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.training.classification import MAX_CLASSES, check_classes
from tunesmith.engine.training.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
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
    """Return the first error in the job's training file, then in its validation file, then in both.

    Also compares the contents with their hashes, and links them into the job's folder.
    """
    file_ids = {"training_file": job.training_file, "validation_file": job.validation_file}
    blobs = BlobStore(home.files)
    paths: list[Path] = []
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
        paths.append(path)
    if job.requested_hyperparameters.get("compute_classification_metrics"):
        return _class_fault(home, job, paths)
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


def _class_fault(home: Home, job: JobRow, paths: Iterable[Path]) -> JobFault | None:
    """Return why the completions cannot be the classes of the job's metrics."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import, seldom needed

    names: set[str] = set()
    for path in paths:
        for _, row in read_rows(path, "invalid_training_file"):
            names.add(str(row.get("completion") or ""))
            if len(names) > MAX_CLASSES:
                break
    settings = job.requested_hyperparameters
    positive_class = settings.get("classification_positive_class")
    tokenizer = AutoTokenizer.from_pretrained(
        load_catalog(home).resolve(job.base_model).path,
        trust_remote_code=False,
        local_files_only=True,
    )
    listed = sorted(names)
    encoded = tokenizer(listed, add_special_tokens=False, verbose=False)["input_ids"]
    try:
        check_classes(
            dict(zip(listed, encoded, strict=True)),
            n_classes=settings.get("classification_n_classes"),
            positive_class=positive_class,
            decode=tokenizer.decode,
        )
    except TrainingError as error:
        kind = "n_classes" if positive_class is None else "positive_class"
        return JobFault(error.code, str(error), f"classification_{kind}")
    return None
