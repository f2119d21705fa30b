"""The launcher that has workers forked by a fork server, so that they start at once.

`fork_server` describes the process and its protocol.
"""

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
    from tunesmith.engine.models.gpus import GpuLease
    from tunesmith.engine.store.records import JobRow

    from .launcher import WorkerProcess
    from .leases import Stage

__all__ = ["ForkServerLauncher"]

_log = logging.getLogger("tunesmith.engine.jobs")

_START_TIMEOUT_SECONDS = 120.0
_UNKNOWN_STATUS = 1


class _ForkedWorker:
    """A worker that the fork server has forked."""

    def __init__(self, pid: int, server: _ForkServer) -> None:
        self.pid = pid
        self.status: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.status is None and not self._server.is_running and not process_exists(self.pid):
            self.status = _UNKNOWN_STATUS  # only the fork server could have reported it
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
    """The fork server's process, and a thread that reads its messages.

    Attributes:
        is_ready: Whether it has loaded the libraries.
    """

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
        self.is_ready: bool = False
        self._request_numbers = itertools.count()
        self._children: dict[int, _ForkedWorker] = {}
        self._started_pids: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="fork server", daemon=True).start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def start(
        self, arguments: list[str], variables: dict[str, str], log: str
    ) -> _ForkedWorker | None:
        """Return a new worker; None if the fork server has died."""
        request = {
            "start": next(self._request_numbers),
            "arguments": arguments,
            "environment": variables,
            "log": log,
        }
        try:
            self._input.write(json.dumps(request).encode() + b"\n")
            self._input.flush()
        except OSError:
            return None
        try:
            pid = self._started_pids.get(timeout=_START_TIMEOUT_SECONDS)
        except queue.Empty:
            self._process.kill()
            return None
        return None if pid is None else self._children[pid]

    def close(self) -> None:
        """Stop the fork server; its workers continue."""
        with contextlib.suppress(OSError):
            self._input.close()
        self._process.wait()

    @property
    def _input(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise ValueError("the fork server was started without a pipe")
        return self._process.stdin

    def _read(self) -> None:
        by_request: dict[int, _ForkedWorker] = {}
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            for line in output:
                message = json.loads(line)
                if "ready" in message:
                    self.is_ready = True
                elif "started" in message:
                    child = _ForkedWorker(message["pid"], self)
                    by_request[message["started"]] = self._children[message["pid"]] = child
                    self._started_pids.put(message["pid"])
                elif "ended" in message:
                    child = by_request.pop(message["ended"])
                    child.status = message["status"]
                    self._children.pop(child.pid, None)
        self._started_pids.put(None)


class ForkServerLauncher:
    """Starts workers through a fork server.

    A validation that comes before it has loaded the libraries is a new process: the two run side
    by side. If the fork server has died, the next worker starts another one; if that one dies,
    too, the worker is started as a new process.

    Args:
        config: The engine's settings.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._subprocess_launcher = SubprocessLauncher(config)
        self._server: _ForkServer | None = None

    def launch(self, job: JobRow, stage: Stage, lease: GpuLease | None = None) -> WorkerProcess:
        """Start a worker whose output goes to `worker.log` in the job's folder.

        A process that was forked cannot use a GPU: one with a lease is started anew.
        """
        if lease is not None:
            return self._subprocess_launcher.launch(job, stage, lease)
        server = self._running_server()
        if stage == "validation" and not server.is_ready:
            return self._subprocess_launcher.launch(job, stage)
        folder = self._config.home.job(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        child = server.start(
            worker_arguments(self._config, job, stage),
            worker_variables(self._config),
            str(folder / "worker.log"),
        )
        if child is not None:
            return child
        _log.warning("the fork server has died; see fork-server.log in the state folder")
        self.close()
        return self._subprocess_launcher.launch(job, stage)

    def close(self) -> None:
        """Stop the fork server."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _running_server(self) -> _ForkServer:
        if self._server is None or not self._server.is_running:
            self.close()
            self._server = _ForkServer(self._config)
        return self._server
