"""trackio, in its folder on this machine (`TRACKIO_DIR`). A run's name is the job's id."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import trackio  # pyright: ignore[reportMissingImports]

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from .job_facts import DataFile, JobFacts

__all__ = ["open_tracker"]


@contextlib.contextmanager
def open_tracker(project: str, _entity: str | None) -> Generator[_Runs]:
    """Yield the project's runs."""
    yield _Runs(project)


class _Runs:
    def __init__(self, project: str) -> None:
        self._project = project

    def has(self, job_id: str) -> bool:
        """Return whether the project has a finished run of that name."""
        return any(run.config.get("status") == "succeeded" for run in self._found(job_id))

    def write(self, facts: JobFacts, files: Sequence[tuple[DataFile, Path]]) -> str:
        """Write the run with its files as artefacts; an earlier one of the job is deleted."""
        with contextlib.redirect_stdout(sys.stderr):  # trackio prints what it does
            self._write(facts, files)
        return f"project {self._project}, run {facts.id}"

    def _write(self, facts: JobFacts, files: Sequence[tuple[DataFile, Path]]) -> None:
        for run in list(self._found(facts.id)):
            run.delete()
        # A run of trackio has no summary, so the outcome is written to its configuration.
        trackio.init(
            project=self._project,
            name=facts.id,
            config=facts.config | facts.summary,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        try:
            for step, metrics in facts.history():
                trackio.log(metrics, step=step)
            for file, path in files:
                trackio.log_artifact(path, name=file.id, type=file.role)
        finally:
            trackio.finish()

    def _found(self, job_id: str) -> Iterator[Any]:
        try:
            runs = trackio.Api().runs(self._project)
        except ValueError:  # no such project yet
            return iter(())
        return (run for run in runs if run.name == job_id)
