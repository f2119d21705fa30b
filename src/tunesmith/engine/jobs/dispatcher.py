"""The server's part in jobs: it starts workers, notices their deaths, and asks them to stop.

One thread looks at the queue twice a second, or at once when it is woken. It keeps no
state that matters: after a restart the rows tell who works on what.
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
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.garbage_collection import collect_garbage

from . import leases, lifecycle
from .spec_file import write_specification

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.model_preloader import ModelPreloader
    from tunesmith.engine.model_registry import ModelRegistry
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

    from .launcher import Launcher, WorkerProcess

__all__ = ["Dispatcher"]

_log = logging.getLogger("tunesmith.engine.jobs")

_PAUSE_SECONDS = 0.5
_CLEAN_SECONDS = 3600.0
_STOP_PAUSE_SECONDS = 0.05
_VALIDATORS = 2


class Dispatcher:
    """Runs the queue from its own thread.

    Args:
        config: The engine's settings.
        database: Where the queue is.
        models: Knows where the models lie that jobs start from.
        launcher: Starts workers.
        preloader: Loads the models that will be requested next.
    """

    def __init__(
        self,
        config: EngineConfig,
        database: Database,
        models: ModelRegistry,
        launcher: Launcher,
        preloader: ModelPreloader,
    ) -> None:
        self._config = config
        self._database = database
        self._models = models
        self._launcher = launcher
        self._preloader = preloader
        self._children: dict[str, WorkerProcess] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._asked: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now: something has changed."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the workers of this machine to write a checkpoint and end; wait until they have.

        Those that take longer than the configuration allows are killed; their jobs go on
        from an earlier checkpoint.
        """
        self._stopping = True
        self._wake.set()
        self._thread.join()
        deadline = time.monotonic() + self._config.shutdown_seconds
        while workers := self._local_workers():
            late = time.monotonic() > deadline
            for job in workers:
                if job.worker_pid is not None and (late or job.worker_id not in self._asked):
                    _signal(job.worker_pid, signal.SIGKILL if late else signal.SIGTERM)
                    self._asked[str(job.worker_id)] = job.worker_pid
            time.sleep(_STOP_PAUSE_SECONDS)
            self._notice_deaths()
        # Their work is stored; what is left of them is the end of an interpreter.
        while self._children or any(map(leases.process_exists, self._asked.values())):
            if time.monotonic() > deadline:
                for pid in self._asked.values():
                    _signal(pid, signal.SIGKILL)
            time.sleep(_STOP_PAUSE_SECONDS)
            self._endings()
        self._launcher.close()

    def _run(self) -> None:
        cleaned = float("-inf")
        while not self._stopping:
            try:
                if time.monotonic() - cleaned > _CLEAN_SECONDS:
                    cleaned = time.monotonic()
                    collect_garbage(self._config.home, self._database)
                self._notice_deaths()
                self._start_workers("validation", _VALIDATORS)
                self._start_workers("training", self._config.max_concurrent_jobs)
            except (SQLAlchemyError, OSError) as error:
                _log.error("the queue waits: %s", str(error).splitlines()[0])
            self._wake.wait(_PAUSE_SECONDS)
            self._wake.clear()

    def _start_workers(self, stage: leases.Stage, most: int) -> None:
        while not self._stopping:
            with self._database.read() as connection:
                if not leases.is_waiting(connection, stage):
                    return
            with self._database.write() as connection:
                if leases.occupied(connection, stage) >= most:
                    return
                job = leases.claim(connection, stage)
            if job is None:
                return
            self._start(job, stage)

    def _start(self, job: JobRow, stage: leases.Stage) -> None:
        try:
            if stage == "training":
                write_specification(self._config, self._models, job)
                self._preloader.training_started(job)
            process = self._launcher.launch(job, stage)
        except RequestError as error:
            self._fail(job, str(error))
            return
        self._children[str(job.worker_id)] = process
        with self._database.write() as connection:
            leases.launched(connection, job, process.pid)

    def _fail(self, job: JobRow, message: str) -> None:
        with self._database.write() as connection:
            held = leases.held(connection, job.id, str(job.worker_id))
            lifecycle.fail(connection, held, "model_not_found", message, "model")
            leases.release(connection, leases.held(connection, job.id, str(job.worker_id)))

    def _notice_deaths(self) -> None:
        endings = self._endings()
        held = self._held()
        self._preloader.update(held)
        for job in held:
            worker = str(job.worker_id)
            if worker in endings:
                self._give_up(job, endings[worker])
            elif worker in self._children:
                self._kill_if_silent(job, self._children[worker])
            elif not leases.is_alive(job, self._config.lease_seconds):
                self._give_up(job, "stopped giving signs of life")

    def _endings(self) -> dict[str, str]:
        """Forget the children that have ended; return how each did."""
        endings: dict[str, str] = {}
        for worker, process in list(self._children.items()):
            status = process.poll()
            if status is None:
                continue
            del self._children[worker]
            endings[worker] = _how(status)
        return endings

    def _kill_if_silent(self, job: JobRow, process: WorkerProcess) -> None:
        if time.time() - (job.heartbeat_at or 0) > self._config.lease_seconds:
            process.kill()

    def _held(self) -> list[JobRow]:
        with self._database.read() as connection:
            jobs = job_queries.unfinished(connection)
        return [job for job in jobs if job.worker_id is not None]

    def _give_up(self, job: JobRow, how: str) -> None:
        with self._database.write() as connection:
            current = job_queries.lock(connection, job.id)
            if current is None or current.worker_id != job.worker_id:
                return
            if job.worker_id in self._asked:
                leases.release(connection, current)
                return
            _log.warning("job %s: its process %s", job.id, how)
            leases.give_up(connection, current, how, self._config.max_attempts)

    def _local_workers(self) -> list[JobRow]:
        here = socket.gethostname()
        return [
            job
            for job in self._held()
            if job.worker_host == here
            and (
                job.worker_id in self._children or leases.is_alive(job, self._config.lease_seconds)
            )
        ]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    if -status == signal.SIGKILL:
        return "was killed (signal 9), as happens when memory runs out"
    return f"was ended by signal {-status}"
