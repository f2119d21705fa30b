"""Which jobs, files and models a recorded organisation has, and how each of them went.

Made from a seed when asked for: only ids are kept in memory, so that ten thousand files cost next
to nothing. How the service shows them is not known here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from .tasks import TASKS, Task, draw

__all__ = [
    "BASES",
    "COMPLETION_BASES",
    "DAY",
    "SHUT",
    "Fate",
    "FineTuned",
    "Quirks",
    "TrainingFacts",
]

Service = Literal["openai", "azure"]
Fate = Literal["whole", "deleted", "expired", "forbidden", "listed_only", "short", "cut", "slow"]

DAY = 86_400
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASES: dict[Service, tuple[str, ...]] = {
    "openai": (
        "gpt-4o-mini-2024-07-18",
        "gpt-4.1-mini-2025-04-14",
        "gpt-4o-2024-08-06",
        "gpt-4.1-2025-04-14",
        "gpt-3.5-turbo-0125",
        "gpt-4.1-nano-2025-04-14",
        "babbage-002",
    ),
    "azure": ("gpt-4o-mini-2024-07-18", "gpt-4.1-mini-2025-04-14", "gpt-4.1-2025-04-14"),
}
# Bases that have been shut down: their fine-tuned models answer no more.
SHUT = ("gpt-3.5-turbo", "gpt-4.1-nano")
COMPLETION_BASES = ("babbage-002", "davinci-002")
_LEGACY_BASES = ("ada", "babbage", "curie", "davinci")
# One job in fourteen failed, another one was cancelled.
_STATUSES = {0: "failed", 1: "cancelled"}
_OTHER_PURPOSES = ("batch", "batch_output", "evals", "fine-tune", "user_data")


@dataclass(frozen=True)
class Quirks:
    """How a recorded organisation misbehaves. The fractions are of all files.

    Attributes:
        deleted: Files that jobs name and that are gone: 404.
        expired: Files past their `expires_at`: their content answers 410.
        forbidden: Files whose content answers 403.
        listed_only: Files that lists still hold although they are deleted; as a page's cursor
            they answer 404, too.
        short: Files with less content than their object says, each time.
        cut: Files whose first download ends in the middle of the body.
        slow: Files whose content comes in small pieces.
        empty_pages: Whether some pages are empty although more follows; the next try has them.
        repeated_items: Whether some pages begin with the last item of the page before.
        free_account: Whether the content of training files answers 400, as for free accounts.
        requests_per_second: Requests that a key may send; None for any number.
        server_errors: The fraction of requests that answer 500 the first time.
        evals_closed: Whether /evals answers 410.
        legacy_api: Whether /fine-tunes answers; it answers 404 otherwise.
    """

    deleted: float = 0.04
    expired: float = 0.02
    forbidden: float = 0.02
    listed_only: float = 0.01
    short: float = 0.01
    cut: float = 0.03
    slow: float = 0.01
    empty_pages: bool = True
    repeated_items: bool = True
    free_account: bool = False
    requests_per_second: float | None = None
    server_errors: float = 0.0
    evals_closed: bool = False
    legacy_api: bool = True

    @classmethod
    def none(cls) -> Quirks:
        """Return a service without any fault."""
        return cls(0, 0, 0, 0, 0, 0, 0, empty_pages=False, repeated_items=False)


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model.

    Attributes:
        name: Its name at the service.
        base: The model that it was trained on.
        project: The position of its project.
        task: What it was trained for; None for one that was trained through the API.
        is_alive: Whether it answers.
        created: Unix time in seconds.
    """

    name: str
    base: str
    project: int
    task: Task | None
    is_alive: bool
    created: int


class TrainingFacts:
    """What is true of the jobs, files and models of an organisation.

    Args:
        seed: Equal seeds and counts make equal organisations.
        service: Whose wire the objects follow.
        projects: Number of active projects; one archived project comes on top.
        files: Number of files; at least three for each job.
        jobs: Number of jobs, of which a tenth are legacy fine-tunes.
        rows: Rows of each training file.
        stored: Stored chat completions of each project.
        now: Unix time in seconds at which the organisation stands.
        quirks: What is wrong with files.

    Raises:
        ValueError: There are too few files for the jobs.
    """

    def __init__(
        self,
        *,
        seed: int,
        service: Service,
        projects: int,
        files: int,
        jobs: int,
        rows: int,
        stored: int,
        now: int,
        quirks: Quirks,
    ) -> None:
        if files < 3 * jobs:
            raise ValueError(f"{jobs} jobs have up to {3 * jobs} files; {files} are too few.")
        self.service: Service = service
        self.seed: int = seed
        self.now: int = now
        self.quirks: Quirks = quirks
        self.file_count: int = files
        self.job_count: int = jobs
        self.rows: int = rows
        self.stored: int = stored
        self.legacy_count: int = jobs // 10 if service == "openai" else 0
        self.organization_id: str = f"org-{self.token('organization', length=24)}"
        active = [f"proj_{self.token('project', n, length=24)}" for n in range(projects)]
        self.projects: list[str] = active if service == "openai" else active[:1]
        self.archived_project: str = f"proj_{self.token('archived', length=24)}"
        self._index = {self.file_id(number): number for number in range(files)}
        self._job_index = {self.job_id(number): number for number in range(jobs)}
        self._files_of: list[list[int]] = [[] for _ in self.projects]
        for number in range(files):
            self._files_of[self.file_project(number)].append(number)
        for numbers in self._files_of:
            numbers.sort(key=lambda one: (self.file_created(one), one), reverse=True)
        self._fine_tuned = {
            model.name: model for model in map(self._model_of, range(jobs)) if model is not None
        }

    def token(self, *parts: object, length: int = 22) -> str:
        """Return letters and digits that depend on the seed and `parts` alone."""
        text = "/".join(map(str, (self.seed, self.service, *parts))).encode()
        value = int.from_bytes(hashlib.blake2b(text, digest_size=32).digest())
        signs: list[str] = []
        for _ in range(length):
            value, rest = divmod(value, 62)
            signs.append(_ALPHABET[rest])
        return "".join(signs)

    def _draw(self, limit: int, *parts: object) -> int:
        return draw(limit, self.seed, *parts)

    # Jobs, and the models that they made

    def job_id(self, number: int) -> str:
        """Return the id of a job; the first ones are legacy fine-tunes."""
        prefix = "ft" if number < self.legacy_count else "ftjob"
        return f"{prefix}-{self.token('job', number, length=24)}"

    def job_number(self, job_id: str) -> int | None:
        """Return the position of a job, None if there is none with that id."""
        return self._job_index.get(job_id)

    def jobs_of(self, project: int, *, legacy: bool) -> list[int]:
        """Return the jobs of a project, newest first."""
        start, end = (0, self.legacy_count) if legacy else (self.legacy_count, self.job_count)
        every = len(self.projects)
        return [one for one in range(end - 1, start - 1, -1) if one % every == project]

    def job_project(self, number: int) -> int:
        """Return the position of a job's project."""
        return number % len(self.projects)

    def job_task(self, number: int) -> Task:
        """Return what a job trains for."""
        return TASKS[(number // len(self.projects)) % len(TASKS)]

    def job_base(self, number: int) -> str:
        """Return the model that a job trains."""
        if number < self.legacy_count:
            return _LEGACY_BASES[number % 4]
        bases = BASES[self.service]
        return bases[self._draw(len(bases), "base", number)]

    def job_status(self, number: int) -> str:
        """Return the status of a job; the newest one still runs."""
        if number == self.job_count - 1 and number:
            return "running"
        return _STATUSES.get(self._draw(14, "status", number), "succeeded")

    def job_method(self, number: int) -> str:
        """Return a job's method, or "completion" for a base without roles."""
        base = self.job_base(number)
        if number < self.legacy_count or base in COMPLETION_BASES:
            return "completion"
        drawn = self._draw(20, "method", number)
        return "dpo" if drawn == 0 else "reinforcement" if drawn == 1 else "supervised"

    def job_created(self, number: int) -> int:
        """Return when a job was made, in Unix seconds."""
        span = 2 * 365 * DAY
        return self.now - DAY - (self.job_count - number) * span // max(1, self.job_count)

    def fine_tuned_name(self, number: int) -> str | None:
        """Return the model of a job, None if it has none."""
        if self.job_status(number) != "succeeded":
            return None
        base, task = self.job_base(number), self.job_task(number).name
        if self.service == "azure":
            return f"{base}.ft-{hashlib.md5(self.job_id(number).encode()).hexdigest()}"  # noqa: S324 - no security
        if number < self.legacy_count:
            return f"{base}:ft-acme-{task}-2023-03-0{1 + number % 9}-12-00-{number % 60:02d}"
        return f"ft:{base}:acme:{task}:{self.token('model', number, length=8)}"

    def _model_of(self, number: int) -> FineTuned | None:
        name = self.fine_tuned_name(number)
        if name is None:
            return None
        base = self.job_base(number)
        alive = not base.startswith(SHUT) and number >= self.legacy_count
        alive = alive and self._draw(100, "model deleted", number) > 2  # noqa: PLR2004 - percent
        project, created = self.job_project(number), self.job_created(number) + 1800
        return FineTuned(name, base, project, self.job_task(number), alive, created)

    def fine_tuned(self, name: str) -> FineTuned | None:
        """Return a fine-tuned model; a checkpoint's name stands for its model."""
        return self._fine_tuned.get(name.partition(":ckpt-step-")[0])

    def models_of(self, project: int) -> list[FineTuned]:
        """Return the models that a project can use."""
        return [one for one in self._fine_tuned.values() if one.project == project and one.is_alive]

    def training_file(self, number: int) -> int:
        """Return the file that a job was trained on; some share the file of an earlier job."""
        if self.job_method(number) != "supervised" or self._draw(7, "shared", number):
            return number
        earlier = number - len(self.projects) * len(TASKS)
        shares = earlier >= self.legacy_count and self.job_method(earlier) == "supervised"
        return earlier if shares else number

    def validation_file(self, number: int) -> int | None:
        """Return a job's file for validation, None if it has none."""
        return self.job_count + number // 3 if number % 3 == 0 else None

    def result_file(self, number: int) -> int | None:
        """Return a job's result file, None if it has none."""
        if self.job_status(number) != "succeeded":
            return None
        return self.job_count + (self.job_count + 2) // 3 + number

    def hyperparameters(self, number: int) -> dict[str, Any]:
        """Return what a job of the jobs API was trained with."""
        return {
            "n_epochs": 2 + self._draw(3, "epochs", number),
            "batch_size": (1, 2, 4)[self._draw(3, "batch", number)],
            "learning_rate_multiplier": (0.1, 1.8, 2.0)[self._draw(3, "rate", number)],
        }

    def steps(self, number: int) -> int:
        """Return how many steps a job took."""
        chosen = self.hyperparameters(number)
        return max(1, self.rows // int(chosen["batch_size"])) * int(chosen["n_epochs"])

    def loss(self, number: int, step: int, steps: int) -> float:
        """Return the training loss of a step."""
        noise = self._draw(1000, "loss", number, step) / 10_000
        return round(2.2 * (1 - step / (steps + 1)) ** 2 + noise, 5)

    # Files

    def file_id(self, number: int) -> str:
        """Return the id of a file."""
        return f"file-{self.token('file', number)}"

    def file_number(self, file_id: str) -> int | None:
        """Return the position of a file, None if there is none with that id."""
        return self._index.get(file_id)

    def files_of(self, project: int) -> list[int]:
        """Return the files that a project lists, newest first."""
        return [one for one in self._files_of[project] if self.fate(one) != "deleted"]

    def file_role(self, number: int) -> tuple[str, int]:
        """Return what a file is, and the job that it belongs to or a number of its own.

        "training", "validation", "results", or its purpose if no job has it.
        """
        thirds = (self.job_count + 2) // 3
        if number < self.job_count:
            return "training", number
        if number < self.job_count + thirds:
            return "validation", (number - self.job_count) * 3
        job = number - self.job_count - thirds
        if job < self.job_count:
            return "results", job
        return _OTHER_PURPOSES[job % len(_OTHER_PURPOSES)], job

    def file_project(self, number: int) -> int:
        """Return the position of a file's project."""
        return self.file_role(number)[1] % len(self.projects)

    def file_created(self, number: int) -> int:
        """Return when a file was made, in Unix seconds."""
        role, job = self.file_role(number)
        if role == "results":
            return self.job_created(job) + 1790
        if role in {"training", "validation"}:
            return self.job_created(job) - 120
        return self.now - DAY - self._draw(700 * DAY, "created", number)

    def fate(self, number: int) -> Fate:
        """Return what is wrong with a file."""
        drawn = self._draw(1_000_000, "fate", number) / 1_000_000
        names: tuple[Fate, ...] = (
            "deleted", "expired", "forbidden", "listed_only", "short", "cut", "slow",
        )  # fmt: skip
        for name in names:
            share: float = getattr(self.quirks, name)
            if drawn < share:
                return name
            drawn -= share
        return "whole"

    def purpose(self, number: int) -> str:
        """Return a file's purpose."""
        role = self.file_role(number)[0]
        known = {"training": "fine-tune", "validation": "fine-tune", "results": "fine-tune-results"}
        return known.get(role, role)
