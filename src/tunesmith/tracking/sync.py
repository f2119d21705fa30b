"""Write finished fine-tunes to a tracker, each once."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from tunesmith.errors import MissingExtraError

from .job_facts import find_jobs, read_facts, retrieve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from tunesmith.client import Client

    from .job_facts import DataFile, JobFacts

__all__ = ["TRACKERS", "Outcome", "Tracker", "open_tracker", "sync"]

TRACKERS = {
    "wandb": ("Weights & Biases", "to_wandb"),
    "mlflow": ("MLflow", "to_mlflow"),
    "trackio": ("trackio", "to_trackio"),
}
"""Package name → display name, and the module that writes to the tracker."""


class Tracker(Protocol):
    """A destination for runs."""

    def has(self, job_id: str) -> bool:
        """Return whether the tracker has the complete run of a job."""
        ...

    def write(self, facts: JobFacts, files: Sequence[tuple[DataFile, Path]]) -> str:
        """Write a job's run, replacing an earlier one; return where to find it."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one job.

    Attributes:
        job: Its id.
        action: "written"; "present", that is, written earlier; or "skipped", not successful.
        detail: Where the run is, or the job's status.
    """

    job: str
    action: Literal["written", "present", "skipped"]
    detail: str = ""


def open_tracker(
    kind: str, *, project: str = "tunesmith", entity: str | None = None
) -> AbstractContextManager[Tracker]:
    """Return a tracker, for a `with` block.

    Args:
        kind: "wandb", "mlflow" or "trackio"; the package's own settings say where it writes,
            such as `WANDB_MODE` or `MLFLOW_TRACKING_URI`.
        project: The project (of MLflow, the experiment) that runs belong to.
        entity: Weights & Biases: the user or team; default: the account's own.

    Raises:
        MissingExtraError: The package is not installed.
        TunesmithError: The package cannot be used as it is set up.
    """
    title, module = TRACKERS[kind]
    if find_spec(kind) is None:
        raise MissingExtraError(title, kind)
    adapter = importlib.import_module(f".{module}", __package__)
    opened: AbstractContextManager[Tracker] = adapter.open_tracker(project, entity)
    return opened


def sync(
    client: Client,
    tracker: Tracker,
    job_id: str | None = None,
    *,
    newest: int | None = None,
    force: bool = False,
) -> Iterator[Outcome]:
    """Write jobs that the tracker does not have yet, oldest first, and yield each outcome.

    Args:
        client: Client of the server that has the jobs.
        tracker: Where to write them.
        job_id: Only this job, by its id in either API.
        newest: Only this many of the newest.
        force: Also write jobs that the tracker has.
    """
    jobs = [retrieve(client, job_id)] if job_id else find_jobs(client, newest)[::-1]
    for job in jobs:
        if job.status != "succeeded":
            yield Outcome(job.id, "skipped", job.status)
        elif not force and tracker.has(job.id):
            yield Outcome(job.id, "present")
        else:
            facts = read_facts(client, job.id)
            with tempfile.TemporaryDirectory() as folder:
                files = [
                    (file, facts.save_file(client, file, Path(folder))) for file in facts.files
                ]
                yield Outcome(job.id, "written", tracker.write(facts, files))
