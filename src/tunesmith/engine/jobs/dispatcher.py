"""The server's part in jobs: it starts workers, notices when they die, and stops them.

One thread polls the queue twice a second, or at once when it is woken. It keeps no state
that matters: after a restart the rows show which worker has which job.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.domain.processes import process_exists
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.garbage_collection import collect_garbage

from . import leases, lifecycle
from .spec_file import write_specification

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.model_preloader import ModelPreloader
    from tunesmith.engine.model_registry import ModelRegistry
    from tunesmith.engine.models.gpus import GpuPool
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

    from .launcher import Launcher, WorkerProcess

__all__ = ["Dispatcher", "WorkerSilence"]

_log = logging.getLogger("tunesmith.engine.jobs")

_POLL_SECONDS = 0.5
_CLEANUP_SECONDS = 3600.0
_STOP_POLL_SECONDS = 0.05
_REPEAT_SECONDS = 60.0
_MAX_VALIDATIONS = 8
"""At a time; each of another organisation."""

_UNRESPONSIVE_LEASES = 10
"""How many leases a process of this machine may be silent before it is killed. As long as it
exists it has its job: it may be suspended, or the database may be locked."""


class Dispatcher:
    """Runs the queue from its own thread.

    Args:
        config: The engine's settings.
        database: Where the queue is.
        models: Finds the models that jobs start from.
        launcher: Starts workers.
        preloader: Loads the models that will be requested next.
        pool: The GPUs of this machine. A training gets one of its own, and waits until one is free.
    """

    def __init__(
        self,
        config: EngineConfig,
        database: Database,
        models: ModelRegistry,
        launcher: Launcher,
        preloader: ModelPreloader,
        *,
        pool: GpuPool,
    ) -> None:
        self._config = config
        self._database = database
        self._models = models
        self._launcher = launcher
        self._preloader = preloader
        self._pool = pool
        # Ray knows the cards of its cluster itself.
        self._needs_gpu = bool(pool.gpus) and config.launcher == "process"
        self._children: dict[str, WorkerProcess] = {}
        self._starting: str | None = None  # id of the worker whose process is being started
        self._silence = WorkerSilence()
        self._unresponsive: set[str] = set()  # ids of workers that were killed for it
        self._wake = threading.Event()
        self._not_started: list[JobRow] = []  # claimed, but no process could be started
        self._last_error = ("", float("-inf"))  # what was logged last, and when
        self._stopping = False
        self._is_hurried = False
        self._stopped: dict[str, int] = {}  # pids by worker id, of those told to stop
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Poll the queue now, because something has changed."""
        self._wake.set()

    def local_jobs(self) -> list[JobRow]:
        """Return the jobs that processes of this machine work on; `stop` waits for these."""
        try:
            return self._local_workers()
        except SQLAlchemyError:
            return []

    def hurry(self) -> None:
        """Have `stop`, which may be running, wait no longer: processes are killed."""
        self._is_hurried = True

    def stop(self) -> None:
        """Tell the workers of this machine to write a checkpoint and exit, and wait for them.

        Those that take longer than the configuration allows are killed; their jobs resume
        from an earlier checkpoint.
        """
        self._stopping = True
        self._wake.set()
        self._thread.join()
        deadline = time.monotonic() + self._config.shutdown_seconds
        while workers := self._local_workers():
            is_late = self._is_hurried or time.monotonic() > deadline
            for job in workers:
                if job.worker_pid is not None and (is_late or job.worker_id not in self._stopped):
                    _signal(job.worker_pid, signal.SIGKILL if is_late else signal.SIGTERM)
                    self._stopped[str(job.worker_id)] = job.worker_pid
            time.sleep(_STOP_POLL_SECONDS)
            self._recover_dead_workers()
        # Their work is stored and their jobs are released; wait for the processes to exit.
        while self._children or any(map(process_exists, self._stopped.values())):
            if self._is_hurried or time.monotonic() > deadline:
                for pid in self._stopped.values():
                    _signal(pid, signal.SIGKILL)
            time.sleep(_STOP_POLL_SECONDS)
            self._collect_exits()

    def _run(self) -> None:
        cleaned = float("-inf")
        while not self._stopping:
            try:
                if time.monotonic() - cleaned > _CLEANUP_SECONDS:
                    cleaned = time.monotonic()
                    collect_garbage(self._config.home, self._database)
                self._give_back()
                self._recover_dead_workers()
                self._start_workers("validation", _MAX_VALIDATIONS)
                self._start_workers("training", self._config.max_concurrent_jobs)
            except (SQLAlchemyError, OSError) as error:
                self._report(str(error).splitlines()[0])
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()

    def _report(self, error: str) -> None:
        """Log an error of the queue, but not twice a second for as long as it lasts."""
        last, reported_at = self._last_error
        if error != last or time.monotonic() - reported_at > _REPEAT_SECONDS:
            self._last_error = (error, time.monotonic())
            _log.error("the queue cannot be worked on: %s", error)

    def _give_back(self) -> None:
        """Put jobs for which no process could be started back, at no attempt's cost."""
        while self._not_started:
            job = self._not_started[-1]
            with self._database.write() as connection:
                leases.give_back(connection, job)
            self._not_started.pop()

    def _start_workers(self, stage: leases.Stage, limit: int) -> None:
        while not self._stopping:
            with self._database.read() as connection:
                if not leases.has_waiting_job(connection, stage):
                    return
                is_full = leases.count_workers(connection, stage) >= limit
            if is_full or (stage == "training" and not self._has_free_gpu()):
                return
            with self._database.write() as connection:
                if leases.count_workers(connection, stage) >= limit:
                    return
                job = leases.claim(connection, stage)
            if job is None:
                return
            self._start(job, stage)

    def _has_free_gpu(self) -> bool:
        """Return whether a training can start; where serving has the last GPU, ask for it."""
        if not self._needs_gpu or self._pool.has_free(self._config.processes_per_job):
            return True
        self._pool.training_waits()
        self._preloader.release_gpu()
        return False

    def _start(self, job: JobRow, stage: leases.Stage) -> None:
        self._starting = job.worker_id
        lease = None
        try:
            if stage == "training" and self._needs_gpu:
                lease = self._pool.acquire(f"job {job.id}", self._config.processes_per_job)
                if lease is None:  # serving has taken it meanwhile
                    self._not_started.append(job)
                    return
            if stage == "training":
                write_specification(self._config, self._models, job)
                self._preloader.training_started(job)
            process = self._launcher.launch(job, stage, lease)
        except RequestError as error:
            self._fail(job, str(error))
            return
        except OSError:  # too many open files, a full disk
            self._not_started.append(job)
            raise
        finally:
            self._starting = None
            if lease is not None:
                lease.close()  # the worker has it, if it was started
        self._children[str(job.worker_id)] = process
        with self._database.write() as connection:
            leases.set_pid(connection, job, process.pid)

    def _fail(self, job: JobRow, message: str) -> None:
        with self._database.write() as connection:
            claimed = leases.lock_claimed(connection, job.id, str(job.worker_id))
            lifecycle.fail(connection, claimed, "model_not_found", message, "model")
            leases.release(connection, leases.lock_claimed(connection, job.id, str(job.worker_id)))

    def _recover_dead_workers(self) -> None:
        exits = self._collect_exits()
        claimed = self._claimed()
        self._preloader.update(claimed)
        self._silence.update(claimed)
        for job in claimed:
            worker = str(job.worker_id)
            if worker in exits:
                self._recover(job, exits[worker])
                continue
            child = self._children.get(worker)
            exists = leases.has_local_process(job) if child is None else True
            limit = self._config.lease_seconds * (_UNRESPONSIVE_LEASES if exists else 1)
            silence = self._silence.seconds(job)
            if exists is False:
                self._recover(job, "ended while no server watched it")
            elif silence > limit and child is not None:
                _log.warning("job %s: killing its process, silent for %.0f s", job.id, silence)
                self._unresponsive.add(worker)
                child.kill()
            elif silence > limit:
                self._recover(job, f"sent no heartbeat for {silence:.0f} seconds")

    def _collect_exits(self) -> dict[str, str]:
        """Drop the children that have exited; return how each did, by worker id."""
        exits: dict[str, str] = {}
        for worker, process in list(self._children.items()):
            status = process.poll()
            if status is None:
                continue
            del self._children[worker]
            exits[worker] = _exit_reason(status)
            if worker in self._unresponsive:
                self._unresponsive.discard(worker)
                exits[worker] = "did not respond any more, so the engine ended it"
        return exits

    def _claimed(self) -> list[JobRow]:
        with self._database.read() as connection:
            jobs = job_queries.unfinished(connection)
        return [job for job in jobs if job.worker_id is not None]

    def _recover(self, job: JobRow, reason: str) -> None:
        with self._database.write() as connection:
            current = job_queries.lock(connection, job.id)
            if current is None or current.worker_id != job.worker_id:
                return
            if job.worker_id in self._stopped:
                leases.release(connection, current)
                return
            _log.warning("job %s: its process %s", job.id, reason)
            leases.recover(connection, current, reason, self._config.max_attempts)

    def _local_workers(self) -> list[JobRow]:
        here = socket.gethostname()
        return [
            job
            for job in self._claimed()
            if job.worker_host == here
            and (
                job.worker_id in self._children
                or job.worker_id == self._starting
                or leases.has_local_process(job)
            )
        ]


class WorkerSilence:
    """For how long workers have sent no heartbeat, in time during which this process ran.

    While a machine is suspended, or the server is stopped, nobody sends heartbeats and nobody
    is dead. So this adds up the time between polls, and counts no more of it than a poll takes.
    """

    def __init__(self) -> None:
        self._polled_at = time.monotonic()
        self._heartbeats: dict[str | None, float | None] = {}
        self._seconds: dict[str | None, float] = {}

    def update(self, claimed: Iterable[JobRow]) -> None:
        """Note the heartbeats of all claimed jobs, as they are in the database now."""
        now = time.monotonic()
        passed = min(now - self._polled_at, 2 * _POLL_SECONDS)
        self._polled_at = now
        heartbeats = {job.worker_id: job.heartbeat_at for job in claimed}
        self._seconds = {
            worker: self._seconds.get(worker, 0.0) + passed
            if worker in self._heartbeats and self._heartbeats[worker] == heartbeat
            else 0.0
            for worker, heartbeat in heartbeats.items()
        }
        self._heartbeats = heartbeats

    def seconds(self, job: JobRow) -> float:
        """Return how long the worker of a job has been silent."""
        return self._seconds.get(job.worker_id, 0.0)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _exit_reason(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    if -status == signal.SIGKILL:
        return "was killed (signal 9), as happens when memory runs out"
    return f"was terminated by signal {-status}"
