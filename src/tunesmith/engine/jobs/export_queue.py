"""Runs the exports that wait, one at a time, each in a process of its own.

Exports outlive the requests that ask for them. One that runs when the server ends is made again
by the next server. Organisations take turns.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from tunesmith.engine.store import export_queries
from tunesmith.engine.training.environment import worker_environment

from .export_worker import out_of_memory_message
from .launcher import worker_variables

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.fork_server import ForkServer
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ExportRow

    from .launcher import WorkerProcess

__all__ = ["ExportQueue"]

_log = logging.getLogger("tunesmith.engine.exports")

_POLL_SECONDS = 1.0
_MAX_ATTEMPTS = 3
_HOUR = 3600.0
_MODULE = "tunesmith.engine.jobs.export_worker"
_END_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Running:
    """An export's process, which ends when the pipe's end is closed."""

    row: ExportRow
    process: WorkerProcess
    pipe: int


class ExportQueue:
    """The thread that starts exports.

    Args:
        config: The engine's settings.
        database: Where the exports are listed.
        fork_server: Forks the processes, once it has loaded the libraries; None for new ones.
    """

    def __init__(
        self, config: EngineConfig, database: Database, fork_server: ForkServer | None = None
    ) -> None:
        self._config = config
        self._database = database
        self._fork_server = fork_server
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._running: _Running | None = None
        self._served: dict[str, float] = {}

    def start(self) -> None:
        """Start the thread; exports that a server before this one had begun wait again.

        Nothing is written here: the server starts although another process holds the database.
        """
        self._thread = threading.Thread(target=self._run, name="exports", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the running export, which the next server makes again, and the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self._running is not None:
            _kill(self._running.process)
            os.close(self._running.pipe)

    def wake(self) -> None:
        """Look at once for what is to be started or ended."""
        self._wake.set()

    @property
    def kept_seconds(self) -> float:
        """How long an export is kept after its end."""
        return self._config.limits.export_hours * _HOUR

    def _run(self) -> None:
        has_requeued = False
        while not self._stopping:
            try:
                if not has_requeued:
                    with self._database.write() as connection:
                        export_queries.requeue_running(connection)
                    has_requeued = True
                self._advance()
            except (SQLAlchemyError, OSError) as error:
                _log.error("the exports cannot be worked on: %s", str(error).splitlines()[0])
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()

    def _advance(self) -> None:
        if self._running is not None:
            if self._running.process.poll() is None and self._is_running(self._running.row):
                return
            self._conclude(self._running.row, _kill(self._running.process))
            os.close(self._running.pipe)
            self._running = None
        row = self._next()
        if row is not None:
            self._running = self._launch(row)

    def _is_running(self, row: ExportRow) -> bool:
        """Return whether a running export has neither been cancelled nor deleted."""
        with self._database.read() as connection:
            now = export_queries.get(connection, row.organization, row.id)
        return now is not None and now.status == "running"

    def _conclude(self, row: ExportRow, status: int) -> None:
        """End an export whose process has ended without saying how."""
        killed = status == -signal.SIGKILL
        message = f"The process that made the export ended unexpectedly (exit status {status})."
        error = {
            "code": "out_of_memory" if killed else "internal_error",
            "message": f"{message} {out_of_memory_message()}" if killed else message,
        }
        with self._database.write() as connection:
            export_queries.end(
                connection, row, "failed", time.time() + self.kept_seconds, error=error
            )

    def _next(self) -> ExportRow | None:
        """Claim the next export: the oldest one of the organisation that has waited longest."""
        with self._database.read() as connection:
            waiting = export_queries.queued(connection)
        if not waiting:
            return None
        chosen = min(waiting, key=lambda row: self._served.get(row.organization, 0.0))
        self._served[chosen.organization] = time.time()
        with self._database.write() as connection:
            row = export_queries.claim(connection, chosen.id)
            if row is not None and row.attempts > _MAX_ATTEMPTS:
                message = f"The engine ended {_MAX_ATTEMPTS} times while it made this export."
                error = {"code": "interrupted", "message": message}
                expires_at = time.time() + self.kept_seconds
                export_queries.end(connection, row, "failed", expires_at, error=error)
                return None
        return row

    def _launch(self, row: ExportRow) -> _Running:
        folder = self._config.home.exports / row.id
        folder.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        try:
            with (folder / "worker.log").open("ab") as log:
                process = self._start(row, read_end, log.fileno())
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        return _Running(row, process, write_end)

    def _start(self, row: ExportRow, stdin: int, log: int) -> WorkerProcess:
        arguments = [
            *("--home", str(self._config.home.root)),
            *("--attempt", str(row.attempts)),
            *("--keep-hours", str(self._config.limits.export_hours)),
            *("--", row.organization, row.id),
        ]
        variables = worker_variables(self._config)
        if self._fork_server is not None and self._fork_server.is_ready:
            forked = self._fork_server.fork(_MODULE, arguments, variables, (stdin, log, log))
            if forked is not None:
                return forked
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, *arguments],
            stdin=stdin,
            stdout=log,
            stderr=log,
            env=worker_environment(dict(os.environ) | variables, self._config.threads),
            start_new_session=True,
        )


def _kill(process: WorkerProcess) -> int:
    """End a process and those that it has started; return its exit status."""
    if process.poll() is None and process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    while (status := process.poll()) is None:
        time.sleep(_END_POLL_SECONDS)
    return status
