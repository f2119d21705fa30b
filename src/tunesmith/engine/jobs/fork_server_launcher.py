"""A launcher that lets a fork server fork the trainings, and so starts them at once."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

from tunesmith.engine.training.environment import worker_environment

from .launcher import SubprocessLauncher, worker_arguments, worker_variables
from .leases import process_exists

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.store.records import JobRow

    from .launcher import WorkerProcess
    from .leases import Stage

__all__ = ["ForkServerLauncher"]

_log = logging.getLogger("tunesmith.engine.jobs")

_START_SECONDS = 120.0
_UNKNOWN = 1


class _ForkedWorker:
    """A worker that the fork server has forked."""

    def __init__(self, pid: int, server: _ForkServer) -> None:
        self.pid = pid
        self.status: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.status is None and not self._server.lives and not process_exists(self.pid):
            self.status = _UNKNOWN  # nobody is left to tell how it ended
        return self.status

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class _ForkServer:
    """The fork server's process, and a thread that reads what it says."""

    def __init__(self, config: EngineConfig) -> None:
        environment = worker_environment(None, config.threads) | {"OPENBLAS_NUM_THREADS": "1"}
        config.home.root.mkdir(parents=True, exist_ok=True)
        with (config.home.root / "fork-server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunesmith.engine.jobs.fork_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._numbers = itertools.count()
        self._children: dict[int, _ForkedWorker] = {}
        self._answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="fork server", daemon=True).start()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def start(
        self, arguments: list[str], variables: dict[str, str], log: str
    ) -> _ForkedWorker | None:
        """Return a new worker; None if the fork server has died."""
        order = {
            "start": next(self._numbers),
            "arguments": arguments,
            "environment": variables,
            "log": log,
        }
        try:
            self._input.write(json.dumps(order).encode() + b"\n")
            self._input.flush()
        except OSError:
            return None
        try:
            pid = self._answers.get(timeout=_START_SECONDS)
        except queue.Empty:
            self._process.kill()
            return None
        return None if pid is None else self._children[pid]

    def close(self) -> None:
        """End the fork server; its workers go on."""
        with contextlib.suppress(OSError):
            self._input.close()
        self._process.wait()

    @property
    def _input(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise ValueError("the fork server was started without a pipe")
        return self._process.stdin

    def _read(self) -> None:
        by_number: dict[int, _ForkedWorker] = {}
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            for line in output:
                said = json.loads(line)
                if "started" in said:
                    child = _ForkedWorker(said["pid"], self)
                    by_number[said["started"]] = self._children[said["pid"]] = child
                    self._answers.put(said["pid"])
                elif "ended" in said:
                    child = by_number.pop(said["ended"])
                    child.status = said["status"]
                    self._children.pop(child.pid, None)
        self._answers.put(None)


class ForkServerLauncher:
    """Starts trainings by forking, and everything else as processes of their own.

    If the fork server dies, the next training starts another; if that does not help, the training
    gets a process of its own.

    Args:
        config: The engine's settings.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._plain = SubprocessLauncher(config)
        self._server: _ForkServer | None = None

    def launch(self, job: JobRow, stage: Stage) -> WorkerProcess:
        """Start a worker whose words go to `worker.log` in the job's folder."""
        if stage == "validation":
            self._prepared()  # it loads while the files are checked
            return self._plain.launch(job, stage)
        folder = self._config.home.job(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        child = self._prepared().start(
            worker_arguments(self._config, job, stage),
            worker_variables(self._config),
            str(folder / "worker.log"),
        )
        if child is not None:
            return child
        _log.warning("the fork server has died; see fork-server.log in the state folder")
        self.close()
        return self._plain.launch(job, stage)

    def close(self) -> None:
        """End the fork server."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _prepared(self) -> _ForkServer:
        if self._server is None or not self._server.lives:
            self.close()
            self._server = _ForkServer(self._config)
        return self._server
