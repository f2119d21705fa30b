"""What is tracked of a fine-tune, read from either fine-tuning API through the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import NotFoundError
from tunesmith.types import FineTune

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tunesmith.client import Client
    from tunesmith.core.modes import Sync
    from tunesmith.results import Results
    from tunesmith.types import FineTuningJob

    Job = FineTune[Sync] | FineTuningJob[Sync]

__all__ = ["DataFile", "JobFacts", "find_jobs", "read_facts", "retrieve"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a job.

    Attributes:
        role: "training", "validation" or "results".
        id: "file-…".
        name: The name that it was uploaded under.
    """

    role: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A finished fine-tune.

    Attributes:
        id: "ft-…" or "ftjob-…".
        config: Its parameters: base model, hyperparameters, names of files.
        results: Its result file, one row per step.
        summary: Its outcome: status, the model's name, and the last value of each metric.
        files: Those that still exist.
        created_at: Unix time in seconds.
        updated_at: When it ended, Unix time in seconds.
    """

    id: str
    config: dict[str, Any]
    results: Results
    summary: dict[str, Any]
    files: tuple[DataFile, ...]
    created_at: int
    updated_at: int

    @property
    def name(self) -> str:
        """The fine-tuned model's name."""
        return str(self.summary["fine_tuned_model"])

    def history(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield each step's number and the metrics measured at it, by column name."""
        columns = [name for name in self.results.columns if name != "step"]
        for number, row in enumerate(self.results):
            values = ((name, self.results.cells[name][number]) for name in columns)
            yield row.step, {name: value for name, value in values if value is not None}

    def save_file(self, client: Client, file: DataFile, folder: Path) -> Path:
        """Download a file into a folder; return its path."""
        path = folder / f"{file.role}-{file.id}{_suffix(file.name)}"
        client.files.content(file.id).write_to_file(path)
        return path


def find_jobs(client: Client, newest: int | None = None) -> list[Job]:
    """Return jobs of any status, newest first.

    They come from the legacy API (`/v1/fine-tunes`), whose jobs have more fields, if the
    server has it.

    Args:
        client: A client.
        newest: Return only this many of the newest.
    """
    try:
        jobs: Sequence[Job] = list(client.fine_tunes.list())[::-1]  # oldest first
    except NotFoundError:
        jobs = list(client.fine_tuning.jobs.list())
    return list(jobs[:newest])


def read_facts(client: Client, job: Job | str) -> JobFacts:
    """Return the facts of a job that has succeeded.

    Args:
        client: A client.
        job: The job, or its id in either API.

    Raises:
        TunesmithError: It has no result file, or a damaged one.
    """
    if isinstance(job, str):
        job = retrieve(client, job)
    results = job.results()
    files = tuple(_existing_files(client, job))
    names = {f"{file.role}_file": file.name for file in files if file.role != "results"}
    return JobFacts(
        id=job.id,
        config={"model": job.model, **_hyperparameters(job), **names},
        results=results,
        summary=_summary(job, results),
        files=files,
        created_at=job.created_at,
        updated_at=_ended_at(job),
    )


def retrieve(client: Client, job_id: str) -> Job:
    """Return a job by its id in either API.

    Raises:
        NotFoundError: There is none.
    """
    if job_id.startswith("ft-"):
        return client.fine_tunes.retrieve(job_id)
    return client.fine_tuning.jobs.retrieve(job_id)


def _hyperparameters(job: Job) -> dict[str, Any]:
    if isinstance(job, FineTune):
        values = job.hyperparams.to_dict()
    else:
        values = job.hyperparameters.to_dict() | {"seed": job.seed, **(job.metadata or {})}
        if job.method is not None:
            values["method"] = job.method.type
    return {name: value for name, value in values.items() if value is not None}


def _summary(job: Job, results: Results) -> dict[str, Any]:
    last = {
        name: series[-1][1]
        for name in results.columns
        if name != "step" and (series := results.series(name))
    }
    best = results.summary().best_step
    return {
        "status": job.status,
        "fine_tuned_model": job.fine_tuned_model,
        "steps": len(results),
        **({} if best is None else {"best_step": best}),
        **last,
    }


def _ended_at(job: Job) -> int:
    if isinstance(job, FineTune):
        return job.updated_at
    return job.finished_at or job.created_at


def _existing_files(client: Client, job: Job) -> Iterator[DataFile]:
    """Yield the job's files, but not those that have been deleted since."""
    if isinstance(job, FineTune):
        named = {
            "training": [file.id for file in job.training_files],
            "validation": [file.id for file in job.validation_files],
            "results": [file.id for file in job.result_files],
        }
    else:
        named = {
            "training": [job.training_file],
            "validation": [job.validation_file] if job.validation_file else [],
            "results": job.result_files,
        }
    for role, ids in named.items():
        for file_id in ids:
            try:
                yield DataFile(role, file_id, client.files.retrieve(file_id).filename)
            except NotFoundError:
                continue


def _suffix(name: str) -> str:
    """Return the ending of a file's name, if it is a plain one."""
    ending = name.rpartition(".")[2]
    return f".{ending}" if ending != name and ending.isalnum() else ""
