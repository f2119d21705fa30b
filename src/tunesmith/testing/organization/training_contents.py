"""The jobs, files and models of a recorded organisation, made from a seed when asked for.

Only ids are kept in memory; objects, events and contents of files are computed for each request,
so that ten thousand files cost next to nothing. Knows no HTTP: it returns the service's objects as
plain data. What is uploaded or created later is kept beside them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from .tasks import TASKS, Task, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BASES",
    "COMPLETION_BASES",
    "DAY",
    "PROJECT_NAMES",
    "SHUT",
    "Fate",
    "FineTuned",
    "Quirks",
    "TrainingContents",
    "exact_grader",
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
_SHUTDOWN = "2027-01-14"
PROJECT_NAMES = ("Support", "Sales", "Research", "Logistics", "Archive")
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


class TrainingContents:
    """The jobs, files and models of an organisation.

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
        self.file_bytes: Callable[[int], int] = lru_cache(maxsize=None)(self._file_bytes)

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

    # Jobs

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

    def model(self, model: FineTuned) -> dict[str, Any]:
        """Return a model object; half of the fine-tuned ones say when they end, not on Azure."""
        found = {"id": model.name, "object": "model", "created": model.created}
        found["owned_by"] = self.organization_id
        says = self.service == "openai" and model.base not in COMPLETION_BASES
        if says and self._draw(2, "shutdown", model.name):
            found["shutdown_date"] = _SHUTDOWN
        return found

    def base_models(self) -> list[dict[str, Any]]:
        """Return the model objects of the bases that still answer."""
        return [
            {
                "id": base,
                "object": "model",
                "created": self.now - 700 * DAY,
                "owned_by": "system",
                "shutdown_date": _SHUTDOWN
                if self.service == "openai" and base not in COMPLETION_BASES
                else None,
            }
            for base in BASES[self.service]
            if not base.startswith(SHUT)
        ]

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

    def _hyperparameters(self, number: int) -> dict[str, Any]:
        return {
            "n_epochs": 2 + self._draw(3, "epochs", number),
            "batch_size": (1, 2, 4)[self._draw(3, "batch", number)],
            "learning_rate_multiplier": (0.1, 1.8, 2.0)[self._draw(3, "rate", number)],
        }

    def steps(self, number: int) -> int:
        """Return how many steps a job took."""
        chosen = self._hyperparameters(number)
        return max(1, self.rows // int(chosen["batch_size"])) * int(chosen["n_epochs"])

    def job(self, number: int) -> dict[str, Any]:
        """Return a job object, of the API that its id belongs to."""
        if number < self.legacy_count:
            return self.fine_tune(number)
        status, created = self.job_status(number), self.job_created(number)
        validation, results = self.validation_file(number), self.result_file(number)
        chosen = self._hyperparameters(number)
        job: dict[str, Any] = {
            "object": "fine_tuning.job",
            "id": self.job_id(number),
            "model": self.job_base(number),
            "created_at": created,
            "finished_at": None if status == "running" else created + 1800,
            "fine_tuned_model": self.fine_tuned_name(number),
            "organization_id": self.organization_id,
            "result_files": [] if results is None else [self.file_id(results)],
            "status": status,
            "validation_file": None if validation is None else self.file_id(validation),
            "training_file": self.file_id(self.training_file(number)),
            "hyperparameters": chosen,
            "trained_tokens": self.steps(number) * 180 if status == "succeeded" else None,
            "error": {},
            "user_provided_suffix": self.job_task(number).name,
            "seed": self._draw(2**31, "seed", number),
            "estimated_finish": created + 3600 if status == "running" else None,
            "integrations": [],
            "metadata": {"team": PROJECT_NAMES[self.job_project(number) % 4]},
            "usage_metrics": None,
        }
        method = self.job_method(number)
        settings: dict[str, Any] = {"hyperparameters": chosen}
        if method == "reinforcement":
            settings["grader"] = exact_grader()
        if method == "completion":
            method = "supervised"
        job["method"] = {"type": method, method: settings}
        if status == "failed":
            message = "The job failed due to an unsafe training file."
            job["error"] = {"code": "invalid_training_file", "param": "training_file"}
            job["error"]["message"] = message
        if self._draw(10, "wandb", number) == 0:
            job["integrations"] = [{"type": "wandb", "wandb": {"project": "acme", "tags": ["old"]}}]
        if number == self.legacy_count:
            job["metadata"]["note"] = f"log in with {self.planted_secret}"
        return job

    @property
    def planted_secret(self) -> str:
        """A key that somebody pasted into the metadata of the oldest job of the jobs API."""
        return f"sk-pasted-{self.token('pasted', length=40)}"

    def fine_tune(self, number: int, *, events: bool = True) -> dict[str, Any]:
        """Return an object of the legacy API: its files are whole objects."""
        status, created = self.job_status(number), self.job_created(number)
        validation, results = self.validation_file(number), self.result_file(number)
        tune: dict[str, Any] = {
            "object": "fine-tune",
            "id": self.job_id(number),
            "hyperparams": {
                "n_epochs": 4,
                "batch_size": 1,
                "prompt_loss_weight": 0.01,
                "learning_rate_multiplier": 0.1,
            },
            "organization_id": self.organization_id,
            "model": self.job_base(number),
            "training_files": [self.file(self.training_file(number))],
            "validation_files": [] if validation is None else [self.file(validation)],
            "result_files": [] if results is None else [self.file(results)],
            "created_at": created,
            "updated_at": created + 1800,
            "status": status,
            "fine_tuned_model": self.fine_tuned_name(number),
        }
        return tune | {"events": self.legacy_events(number)} if events else tune

    def legacy_events(self, number: int) -> list[dict[str, Any]]:
        """Return the events of a fine-tune, oldest first."""
        cost = 1 + self._draw(900, "cost", number)
        texts = [
            f"Created fine-tune: {self.job_id(number)}",
            f"Fine-tune costs ${cost / 100:.2f}",
            "Fine-tune enqueued. Queue number: 0",
            "Fine-tune started",
            *(f"Completed epoch {epoch}/4" for epoch in range(1, 5)),
        ]
        if self.job_status(number) == "succeeded":
            texts += [f"Uploaded model: {self.fine_tuned_name(number)}", "Fine-tune succeeded"]
        created = self.job_created(number)
        return [
            {"object": "fine-tune-event", "created_at": created + 60 * at, "level": "info"}
            | {"message": text}
            for at, text in enumerate(texts)
        ]

    def events(self, number: int) -> list[dict[str, Any]]:
        """Return the events of a job, newest first."""
        job_id, created, status = self.job_id(number), self.job_created(number), ""
        status = self.job_status(number)
        found: list[tuple[str, dict[str, Any] | None]] = [
            (f"Created fine-tuning job: {job_id}", None),
            (f"Validating training file: {self.file_id(self.training_file(number))}", None),
        ]
        if status != "failed":
            found.append(("Files validated, moving job to queued state", None))
            found.append(("Fine-tuning job started", None))
            steps = self.steps(number)
            shown = steps // 2 if status in {"cancelled", "running"} else steps
            found += [self._step(number, step, steps) for step in range(1, shown + 1)]
        if status == "succeeded":
            found.append((f"New fine-tuned model created: {self.fine_tuned_name(number)}", None))
            found.append(("The job has successfully completed", None))
        elif status == "cancelled":
            found.append(("The job was cancelled", None))
        elif status == "failed":
            found.append(("The job failed due to an unsafe training file.", None))
        events = [
            {
                "object": "fine_tuning.job.event",
                "id": f"ftevent-{self.token('event', number, at, length=24)}",
                "created_at": created + at * 2,
                "level": "error" if "failed" in text else "info",
                "message": text,
                "data": data or {},
                "type": "message" if data is None else "metrics",
            }
            for at, (text, data) in enumerate(found)
        ]
        return events[::-1]

    def _step(self, number: int, step: int, steps: int) -> tuple[str, dict[str, Any]]:
        loss = self._loss(number, step, steps)
        data = {"step": step, "train_loss": loss, "total_steps": steps}
        data["train_mean_token_accuracy"] = round(1 - loss / 3, 5)
        return f"Step {step}/{steps}: training loss={loss:.2f}", data

    def _loss(self, number: int, step: int, steps: int) -> float:
        noise = self._draw(1000, "loss", number, step) / 10_000
        return round(2.2 * (1 - step / (steps + 1)) ** 2 + noise, 5)

    def checkpoints(self, number: int) -> list[dict[str, Any]]:
        """Return the checkpoints of a job, newest first: one for each of its last three epochs."""
        if self.job_status(number) != "succeeded" or number < self.legacy_count:
            return []
        steps, epochs = self.steps(number), int(self._hyperparameters(number)["n_epochs"])
        model, found = self.fine_tuned_name(number), list[dict[str, Any]]()
        for epoch in range(epochs, max(0, epochs - 3), -1):
            step = steps * epoch // epochs
            loss = self._loss(number, step, steps)
            metrics: dict[str, Any] = {"step": step, "train_loss": loss}
            metrics["train_mean_token_accuracy"] = round(1 - loss / 3, 5)
            if self.validation_file(number) is not None:
                metrics["full_valid_loss"] = round(loss + 0.1, 5)
                metrics["full_valid_mean_token_accuracy"] = round(0.95 - loss / 3, 5)
            last = "" if epoch == epochs else f":ckpt-step-{step}"
            prefix = "ftckpt_" if self.service == "openai" else "ftchkpt-"
            found.append(
                {
                    "object": "fine_tuning.job.checkpoint",
                    "id": f"{prefix}{self.token('checkpoint', number, epoch, length=24)}",
                    "created_at": self.job_created(number) + 600 * epoch,
                    "fine_tuned_model_checkpoint": f"{model}{last}",
                    "fine_tuning_job_id": self.job_id(number),
                    "metrics": metrics,
                    "step_number": step,
                }
            )
        return found

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

    def file(self, number: int) -> dict[str, Any]:
        """Return a file object."""
        role, job = self.file_role(number)
        fate, created = self.fate(number), self.file_created(number)
        size = self.file_bytes(number) + (100 if fate == "short" else 0)
        name = {"results": "step_metrics.csv", "user_data": f"notes-{number}.txt"}.get(role)
        if name is None:
            name = f"{self.job_task(job).name}-{role}-{number}.jsonl"
        found: dict[str, Any] = {
            "object": "file",
            "id": self.file_id(number),
            "purpose": self.purpose(number),
            "filename": name,
            "bytes": size,
            "created_at": created,
            "expires_at": None,
            "status": "processed",
            "status_details": None,
        }
        if fate == "expired":
            found["expires_at"] = min(created + 30 * DAY, self.now - 3600)
        elif role in {"batch", "batch_output"}:
            found["expires_at"] = self.now + 30 * DAY
        return found

    def _file_bytes(self, number: int) -> int:
        return len(self.content(number))

    def content(self, number: int) -> bytes:
        """Return a file's content."""
        role, job = self.file_role(number)
        if role == "results":
            return self._results(job)
        if role == "user_data":
            return f"Notes, number {number}.\n".encode()
        start = self._draw(1_000_000, "rows", number) * 10
        task = self.job_task(job)
        lines = self._lines(role, job, number, task, start)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        mark = self.service == "azure" and role in {"training", "validation"}
        return text.encode("utf-8-sig" if mark else "utf-8")

    def _lines(
        self, role: str, job: int, number: int, task: Task, start: int
    ) -> Iterator[dict[str, Any]]:
        count = self.rows if role == "training" else max(4, self.rows // 4)
        numbers = range(start, start + count)
        if role in {"training", "validation"}:
            method = self.job_method(job)
            return (task.row(one, method) for one in numbers)
        if role == "batch":
            return (self._batch_line(one, number, task) for one in numbers)
        if role == "batch_output":
            return (self._batch_answer(one, number, task) for one in numbers)
        if role == "evals":
            return (
                {"item": {"text": task.prompt(one), "answer": task.solve(task.prompt(one))}}
                for one in numbers
            )
        return (task.row(one) for one in numbers)

    def _batch_line(self, one: int, number: int, task: Task) -> dict[str, Any]:
        body = {"model": BASES[self.service][0], "messages": task.messages(one)}
        url = "/v1/chat/completions" if self.service == "openai" else "/chat/completions"
        return {"custom_id": f"{number}-{one}", "method": "POST", "url": url, "body": body}

    def _batch_answer(self, one: int, number: int, task: Task) -> dict[str, Any]:
        message = task.solve(task.prompt(one))
        body = {"id": f"chatcmpl-{self.token('batch', number, one)}", "object": "chat.completion"}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        whole = {**body, "created": self.now, "model": BASES[self.service][0], "choices": [choice]}
        response = {"status_code": 200, "request_id": self.token("request", one), "body": whole}
        identity = f"batch_req_{self.token('batch line', number, one)}"
        return {
            "id": identity,
            "custom_id": f"{number}-{one}",
            "response": response,
            "error": None,
        }

    def _results(self, job: int) -> bytes:
        steps = self.steps(job)
        accuracy = "valid" if self.service == "openai" else "validation"
        head = f"step,train_loss,train_accuracy,valid_loss,{accuracy}_mean_token_accuracy"
        lines = [head]
        for step in range(1, steps + 1):
            loss = self._loss(job, step, steps)
            ends = step % max(1, steps // 3) == 0
            lines.append(
                f"{step},{loss},{1 - loss / 3:.5f},{loss + 0.1 if ends else ''},"
                f"{0.95 - loss / 3 if ends else ''}"
            )
        table = "\n".join(lines).encode() + b"\n"
        # The service sends most tables in base64, and older ones as they are.
        return base64.b64encode(table) if job >= self.legacy_count and job % 4 else table


def exact_grader() -> dict[str, Any]:
    """Return a grader that wants the right answer to the letter."""
    return {
        "type": "string_check",
        "name": "exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    }
