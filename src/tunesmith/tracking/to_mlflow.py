"""MLflow. A run is found by its tag `tunesmith.job`; a project is an experiment."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunTag  # pyright: ignore[reportMissingImports]
from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]
from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from .job_facts import DataFile, JobFacts

__all__ = ["open_tracker"]

_TAG = "tunesmith.job"
_METRICS_PER_BATCH = 1000  # the server's limit
_MILLISECONDS = 1000


@contextlib.contextmanager
def open_tracker(project: str, _entity: str | None) -> Generator[_Runs]:
    """Yield the experiment's runs; errors of MLflow are raised as `TunesmithError`."""
    try:
        client = MlflowClient()
        experiment = client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else client.create_experiment(project)
        yield _Runs(client, number)
    except MlflowException as error:
        raise TunesmithError(
            f"MLflow: {str(error).rstrip('.')}. MLFLOW_TRACKING_URI says where runs are kept."
        ) from error


class _Runs:
    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self._client = client
        self._experiment = experiment

    def has(self, job_id: str) -> bool:
        """Return whether the experiment has a finished run with the job's tag."""
        return bool(self._found(f"tags.`{_TAG}` = '{job_id}' and attributes.status = 'FINISHED'"))

    def write(self, facts: JobFacts, files: Sequence[tuple[DataFile, Path]]) -> str:
        """Write the run with its files as artefacts; an earlier one of the job is deleted."""
        for run_id in self._found(f"tags.`{_TAG}` = '{facts.id}'"):
            self._client.delete_run(run_id)
        run_id = self._client.create_run(
            self._experiment,
            start_time=facts.created_at * _MILLISECONDS,
            run_name=facts.name,
            tags={_TAG: facts.id},
        ).info.run_id
        metrics = [
            Metric(name, value, facts.updated_at * _MILLISECONDS, step)
            for step, row in facts.history()
            for name, value in row.items()
        ]
        params = [Param(name, str(value)) for name, value in facts.config.items()]
        tags = [RunTag(name, str(value)) for name, value in facts.summary.items()]
        self._client.log_batch(run_id, params=params, tags=tags)
        for first in range(0, len(metrics), _METRICS_PER_BATCH):
            batch = metrics[first : first + _METRICS_PER_BATCH]
            self._client.log_batch(run_id, metrics=batch)
        for file, path in files:
            self._client.log_artifact(run_id, str(path), artifact_path=file.role)
        self._client.set_terminated(run_id, end_time=facts.updated_at * _MILLISECONDS)
        return f"run {run_id}"

    def _found(self, condition: str) -> list[str]:
        runs = self._client.search_runs([self._experiment], condition)
        return [run.info.run_id for run in runs]
