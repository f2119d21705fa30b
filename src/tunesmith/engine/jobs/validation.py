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

    from tunesmith.engine.domain.errors import TrainingErrorCode
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


def find_fault(
    database: Database,
    home: Home,
    job: JobRow,
    max_tokens: int | None = None,
    *,
    with_model: bool = True,
) -> JobFault | None:
    """Return the first error in the job's training file, then in its validation file, then in both.

    Also compares the contents with their hashes, and links them into the job's folder.

    Args:
        database: Where the files are listed.
        home: The state folder.
        job: The job.
        max_tokens: Most tokens of an example; None for the model's context.
        with_model: Whether to check the rows with the base model's files, too.
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
        if error_text is None and with_model:
            error_text = _first_unlearnable(path, home, job, max_tokens)
        if error_text is not None:
            kind = param.replace("_", " ")
            message = f"The {kind} {file.filename!r} ({file.id}) cannot be used: {error_text}"
            return JobFault(f"invalid_{param}", message, param)
        paths.append(path)
    if with_model and job.requested_hyperparameters.get("compute_classification_metrics"):
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


def _first_unlearnable(path: Path, home: Home, job: JobRow, max_tokens: int | None) -> str | None:
    """Return the error of the first row that the job's base model cannot learn, if any.

    The rows are rendered by the model's chat template and, where they are long, counted in its
    tokens, as the training will do it. This loads no torch.
    """
    from tunesmith.engine.serving.input_processor import chat_template  # noqa: PLC0415 - likewise
    from tunesmith.engine.serving.vocabulary import read_vocabulary  # noqa: PLC0415 - likewise
    from tunesmith.engine.training.examples import check_texts  # noqa: PLC0415 - likewise
    from tunesmith.engine.training.rows import (  # noqa: PLC0415 - likewise
        read_preference_texts,
        read_texts,
    )

    base = load_catalog(home).find(job.base_model)
    if not base.installed:
        return None  # that is reported when the training starts
    vocabulary = read_vocabulary(base.path)
    template = chat_template(vocabulary)
    read = read_preference_texts if job.method == "dpo" else read_texts
    limit = min(max_tokens or vocabulary.context_length, vocabulary.context_length)
    code: TrainingErrorCode = "invalid_training_file"
    try:
        check_texts(read(path, template, code), vocabulary.tokenizer, max_tokens=limit, code=code)
    except TrainingError as error:
        return str(error)
    return None
