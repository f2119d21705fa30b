"""Starting workers: a process of its own for each job.

A worker has its own session, so it survives the server's death and a Ctrl-C in the
terminal. It finds what it needs in the database and in its job's `spec.json`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

from tunesmith.engine.models.gpus import NO_GPU
from tunesmith.engine.training.environment import worker_environment

from .model_proof import is_proven

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.fork_server import ForkServer
    from tunesmith.engine.models.gpus import GpuLease
    from tunesmith.engine.store.records import JobRow

    from .leases import Stage

__all__ = [
    "DATABASE_VARIABLE",
    "ForkServerLauncher",
    "Launcher",
    "SubprocessLauncher",
    "WorkerProcess",
    "lower_priority",
    "worker_arguments",
    "worker_variables",
]

DATABASE_VARIABLE = "TUNESMITH_WORKER_DATABASE"
"""Environment variable that passes the database's URL, which may hold a password, to a worker."""

_MODULE = "tunesmith.engine.jobs.job_worker"
_NICENESS = 5


def lower_priority() -> None:
    """Lower the priority of this process and its children below the server's.

    Requests are latency-bound, trainings are not. Does nothing where the system has no
    process priorities, or where this process's priority is already lower.
    """
    if hasattr(os, "setpriority"):
        niceness = max(os.getpriority(os.PRIO_PROCESS, 0), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


def worker_arguments(config: EngineConfig, job: JobRow, stage: Stage) -> list[str]:
    """Return the command line of a worker for a job that was claimed for it."""
    limit = config.example_limit(job.family)
    uses_ray = config.launcher == "ray" and stage == "training"
    is_shared = config.processes_per_job > 1 and stage == "training"
    return [
        *(("--processes", str(config.processes_per_job)) if is_shared else ()),
        *(("--ray", json.dumps(dataclasses.asdict(config.ray))) if uses_ray else ()),
        *("--home", str(config.home.root)),
        *("--stage", stage),
        *(("--max-example-tokens", str(limit)) if limit is not None else ()),
        *("--heartbeat", str(config.heartbeat_seconds)),
        *("--validation-seconds", str(config.validation_seconds)),
        *("--worker", str(job.worker_id)),
        job.id,
    ]


def worker_variables(config: EngineConfig) -> dict[str, str]:
    """Return the environment variables that a worker needs beyond the server's own."""
    return {DATABASE_VARIABLE: config.database}


class WorkerProcess(Protocol):
    """A worker that this server started."""

    @property
    def pid(self) -> int | None:
        """The process's id; None if it runs on another machine."""
        ...

    def poll(self) -> int | None:
        """Return its exit status, as `subprocess.Popen.poll` does; None while it runs."""

    def terminate(self) -> None:
        """Tell it to write a checkpoint and exit."""

    def kill(self) -> None:
        """Kill it."""


class Launcher(Protocol):
    """A way to start workers."""

    def launch(self, job: JobRow, stage: Stage, lease: GpuLease | None = None) -> WorkerProcess:
        """Start a worker for a job that was claimed for it.

        Args:
            job: The job.
            stage: What it does.
            lease: The GPUs that it may use, which it inherits; None where none are leased.
        """
        ...


class SubprocessLauncher:
    """Starts each worker as a new process on this machine.

    Args:
        config: The engine's settings.
        has_gpus: Whether this machine's GPUs are leased: who has no lease may use none.
    """

    def __init__(self, config: EngineConfig, *, has_gpus: bool = False) -> None:
        self._config = config
        self._has_gpus = has_gpus

    def launch(self, job: JobRow, stage: Stage, lease: GpuLease | None = None) -> WorkerProcess:
        """Start a worker whose output goes to `worker.log` in the job's folder."""
        folder = self._config.home.job(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ) | worker_variables(self._config)
        if stage == "training":
            environment = worker_environment(environment, self._config.threads)
        if lease is not None:
            environment |= lease.variables
        elif self._has_gpus:
            environment |= NO_GPU  # a proof has no card of its own, and none that a training fills
        arguments = worker_arguments(self._config, job, stage)
        with (folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=() if lease is None else lease.descriptors,
                start_new_session=True,
            )


class ForkServerLauncher:
    """Has workers forked from a process that has loaded the libraries, so that they start at once.

    A validation that needs none of them and comes before they are loaded is a new process: the
    two run side by side. If the fork server dies, the worker is started as a new process, and the
    next one starts another fork server.

    Args:
        config: The engine's settings.
        server: The fork server.
    """

    def __init__(self, config: EngineConfig, server: ForkServer) -> None:
        self._config = config
        self._server = server
        self._subprocess_launcher = SubprocessLauncher(config)

    def launch(self, job: JobRow, stage: Stage, lease: GpuLease | None = None) -> WorkerProcess:
        """Start a worker whose output goes to `worker.log` in the job's folder.

        A process that was forked cannot use a GPU: one with a lease is started anew.
        """
        if lease is not None:
            return self._subprocess_launcher.launch(job, stage, lease)
        self._server.start()
        is_side_by_side = stage == "validation" and not self._server.is_ready
        if is_side_by_side and is_proven(self._config.home, job):
            return self._subprocess_launcher.launch(job, stage)
        folder = self._config.home.job(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        with open(os.devnull, "rb") as nothing, (folder / "worker.log").open("ab") as log:  # noqa: PTH123
            worker = self._server.fork(
                _MODULE,
                worker_arguments(self._config, job, stage),
                worker_variables(self._config),
                (nothing.fileno(), log.fileno(), log.fileno()),
            )
        return worker or self._subprocess_launcher.launch(job, stage)
