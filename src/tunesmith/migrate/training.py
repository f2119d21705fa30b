"""The plan, run through the queue of an engine: every job of it, on each of its bases.

What was created is written beside the plan before anything is waited for, so that a run that ends
early is continued and no job is created twice. Works with any server of the fine-tuning API that
the engine speaks; the engine's own settings travel as `extra_body`. The blocking and the asyncio
function differ by the loop alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import write_atomically
from tunesmith.errors import TunesmithError

from .plan_file import PlanError, read_plan

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from tunesmith.client import AsyncClient, Client

    from .planning import Plan, PlannedJob

__all__ = ["TrainedJob", "train", "train_async", "trained_file"]

_SUFFIX = ".trained.json"


@dataclass(slots=True)
class TrainedJob:
    """One training of the plan.

    Attributes:
        name: The plan's job.
        base: The base model.
        old_model: The model that it replaces.
        job_id: The new job.
        status: Its status when it was last read.
        model: The new model, None while there is none.
        error: Why there is none.
    """

    name: str
    base: str
    old_model: str
    job_id: str
    status: str = "queued"
    model: str | None = None
    error: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.status in {"succeeded", "failed", "cancelled"}


def train(
    client: Client,
    plan: str | os.PathLike[str],
    *,
    on_event: Callable[[TrainedJob], object] | None = None,
) -> list[TrainedJob]:
    """Run a plan: create its jobs and wait for them; continue where an earlier run ended.

    A job that continues another is created when the other has ended. All others are created at
    once; the engine's queue does them one after the other, or as many at a time as it can. The
    result is kept beside the plan, as `plan.trained.json`. A job that has failed is created again
    by the next run.

    Args:
        client: For the engine.
        plan: The plan's file.
        on_event: Called when a job is created, and when it has ended.

    Returns:
        Every training of the plan, also those of earlier runs.

    Raises:
        PlanError: The plan cannot be used.
        APIError: The engine refuses a job; those created before go on.
    """
    run = _Run(Path(plan))
    for wave in run.waves():
        for one in wave:
            created = client.fine_tuning.jobs.create(**run.request(one))
            run.created(one, created.id, on_event)
        for trained in run.unfinished():
            ended = client.fine_tuning.jobs.wait(trained.job_id)
            run.ended(trained, ended, on_event)
    return run.trained


async def train_async(
    client: AsyncClient,
    plan: str | os.PathLike[str],
    *,
    on_event: Callable[[TrainedJob], object] | None = None,
) -> list[TrainedJob]:
    """Do the same as `train` on an asyncio client."""
    run = _Run(Path(plan))
    for wave in run.waves():
        for one in wave:
            created = await client.fine_tuning.jobs.create(**run.request(one))
            run.created(one, created.id, on_event)
        for trained in run.unfinished():
            ended = await client.fine_tuning.jobs.wait(trained.job_id)
            run.ended(trained, ended, on_event)
    return run.trained


def trained_file(plan: str | os.PathLike[str]) -> Path:
    """Return the file that says what was trained by a plan."""
    return Path(plan).with_suffix(_SUFFIX)


@dataclass(frozen=True, slots=True)
class _Training:
    """A job of the plan on one of its bases, and the model that it starts from."""

    job: PlannedJob
    base: str
    model: str


class _Run:
    """What is still to be created, and what became of the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._plan: Plan = read_plan(path)
        self._archive = Path(self._plan.archive)
        if not self._archive.is_absolute() and not self._archive.exists():
            self._archive = path.parent / self._archive
        self.trained: list[TrainedJob] = _read_trained(trained_file(path))
        for job in self._plan.jobs:
            for name in (job.training_file, job.validation_file) if job.run else ():
                if name is not None and not (self._archive / name).is_file():
                    raise PlanError(f"{path}: {job.name}: there is no {self._archive / name}.")

    def waves(self) -> Iterator[list[_Training]]:
        """Yield the trainings that can begin, until there are none; parents come before."""
        tried: set[tuple[str, str]] = set()
        while True:
            wave = [one for one in self._waiting() if (one.job.name, one.base) not in tried]
            tried |= {(one.job.name, one.base) for one in wave}
            if not wave and not self.unfinished():
                return
            yield wave

    def _waiting(self) -> Iterator[_Training]:
        for job in self._plan.jobs:
            for base in job.bases if job.run else ():
                known = self._find(job.name, base)
                if known is not None and known.status not in {"failed", "cancelled"}:
                    continue
                start = base if job.after is None else self._parent(job.after, base)
                if start is not None:
                    yield _Training(job, base, start)

    def _parent(self, old_model: str, base: str) -> str | None:
        """Return the new model that replaces a job's parent on the same base, once there is one."""
        for one in self.trained:
            if one.old_model == old_model and one.base == base and one.model is not None:
                return one.model
        return None

    def request(self, one: _Training) -> dict[str, Any]:
        """Return the keyword arguments of the job's creation."""
        job = one.job
        names = ["n_epochs", "batch_size", "learning_rate_multiplier"]
        if job.method == "dpo":
            names.append("beta")
        own = {"early_stopping": job.early_stopping, "keep_best": job.keep_best or None}
        values = {
            "model": one.model,
            "training_file": self._archive / str(job.training_file),
            "validation_file": None
            if job.validation_file is None
            else self._archive / job.validation_file,
            "method": {
                "type": job.method,
                job.method: {"hyperparameters": {name: getattr(job, name) for name in names}},
            },
            "suffix": job.suffix,
            "seed": job.seed,
            "metadata": {"replaces": job.old_model[:512], "old_job": job.old_job[:512]},
            "extra_body": {name: value for name, value in own.items() if value is not None},
        }
        return {name: value for name, value in values.items() if value}

    def unfinished(self) -> list[TrainedJob]:
        """Return the trainings that have not ended."""
        return [one for one in self.trained if not one.is_done]

    def created(
        self, one: _Training, job_id: str, on_event: Callable[[TrainedJob], object] | None
    ) -> None:
        known = self._find(one.job.name, one.base)
        if known is not None:
            self.trained.remove(known)
        made = TrainedJob(one.job.name, one.base, one.job.old_model, job_id)
        self.trained.append(made)
        self._save()
        if on_event is not None:
            on_event(made)

    def ended(
        self, trained: TrainedJob, job: Any, on_event: Callable[[TrainedJob], object] | None
    ) -> None:
        trained.status = job.status
        trained.model = job.fine_tuned_model
        trained.error = None if job.error is None else job.error.message
        self._save()
        if on_event is not None:
            on_event(trained)

    def _find(self, name: str, base: str) -> TrainedJob | None:
        return next((one for one in self.trained if (one.name, one.base) == (name, base)), None)

    def _save(self) -> None:
        text = json.dumps([asdict(one) for one in self.trained], indent=2, ensure_ascii=False)
        with write_atomically(trained_file(self._path)) as stream:
            stream.write(text.encode() + b"\n")


def _read_trained(path: Path) -> list[TrainedJob]:
    if not path.exists():
        return []
    try:
        return [TrainedJob(**one) for one in json.loads(path.read_bytes())]
    except (ValueError, TypeError) as error:
        raise TunesmithError(f"{path} is damaged: {error}. Remove it to begin anew.") from None
