"""Weights & Biases. A run's id is the job's; `WANDB_MODE=offline` writes to a local folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb  # pyright: ignore[reportMissingImports]

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from .job_facts import DataFile, JobFacts

__all__ = ["open_tracker"]


@contextlib.contextmanager
def open_tracker(project: str, entity: str | None) -> Generator[_Runs]:
    """Yield the project's runs; errors of wandb are raised as `TunesmithError`."""
    try:
        yield _Runs(project, entity)
    except wandb.Error as error:
        raise TunesmithError(
            f"Weights & Biases: {str(error).rstrip('.')}. Set WANDB_API_KEY, or "
            "WANDB_MODE=offline to write to a local folder first."
        ) from error


class _Runs:
    def __init__(self, project: str, entity: str | None) -> None:
        self._project = project
        self._entity = entity

    def has(self, job_id: str) -> bool:
        """Return whether the service, or offline the local folder, has the job's run."""
        if os.environ.get("WANDB_MODE") == "offline":
            folder = Path(os.environ.get("WANDB_DIR", ".")) / "wandb"
            return any(folder.glob(f"offline-run-*-{job_id}"))
        prefix = f"{self._entity}/" if self._entity else ""
        try:
            run = wandb.Api().run(f"{prefix}{self._project}/{job_id}")
        except (wandb.errors.CommError, ValueError):  # no such run, or no such project yet
            return False
        return bool(run.summary.get("status") == "succeeded")

    def write(self, facts: JobFacts, files: Sequence[tuple[DataFile, Path]]) -> str:
        """Write the run with its files as artefacts."""
        with wandb.init(
            project=self._project,
            entity=self._entity,
            id=facts.id,
            name=facts.name,
            job_type="fine-tune",
            config=facts.config,
            # The machine and the program that write a run are not those that ran the training.
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        ) as run:
            for step, metrics in facts.history():
                run.log(metrics, step=step)
            run.summary.update(facts.summary)
            for file, path in files:
                run.log_artifact(_artifact(file, path))
            return os.path.relpath(Path(run.dir).parent) if run.offline else str(run.url)


def _artifact(file: DataFile, path: Path) -> Any:
    artifact = wandb.Artifact(file.id, type=file.role, metadata={"filename": file.name})
    artifact.add_file(str(path), name=path.name)
    return artifact
