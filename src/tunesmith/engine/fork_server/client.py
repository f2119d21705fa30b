"""The fork server's client: starts the server where needed, and has it fork processes.

`server` describes the protocol.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tunesmith.engine.domain.processes import process_exists
from tunesmith.engine.training.environment import worker_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["LARGEST_MESSAGE", "ForkServer", "ForkedProcess", "is_supported"]

_log = logging.getLogger("tunesmith.engine")

_FORK_TIMEOUT_SECONDS = 300.0  # the server may be loading the libraries on a busy machine
_UNKNOWN_STATUS = 1

LARGEST_MESSAGE = 1 << 17
"""Bytes of a message between the server and its client."""


def is_supported() -> bool:
    """Return whether a forked process can compute here: on Linux without an NVIDIA GPU.

    A GPU's driver does not survive a fork, and forks are not safe on other systems.
    """
    return sys.platform == "linux" and not os.path.exists("/dev/nvidiactl")  # noqa: PTH110


class ForkedProcess:
    """A process that the fork server has forked.

    Attributes:
        pid: Its process id.
        status: Its exit status, as `subprocess.Popen.returncode`; None while nothing is known of
            its end.
    """

    def __init__(self, pid: int, server: _RunningServer) -> None:
        self.pid: int = pid
        self.status: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Return its exit status, as `subprocess.Popen.poll` does; None while it runs."""
        if self.status is None and not self._server.is_running and not process_exists(self.pid):
            self.status = _UNKNOWN_STATUS  # only the fork server could have reported it
        return self.status

    def terminate(self) -> None:
        """Send it SIGTERM, if it still runs."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """The fork server of an engine. Safe to use from several threads.

    Args:
        log: File to which it writes what libraries print.
        threads: Threads that the forked processes compute with; None for as many as are free
            when the server starts.
    """

    def __init__(self, log: Path, threads: int | None) -> None:
        self._log = log
        self._threads = threads
        self._lock = threading.Lock()
        self._server: _RunningServer | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it runs and has loaded the libraries."""
        server = self._server
        return server is not None and server.is_ready and server.is_running

    def start(self) -> None:
        """Start it, unless it runs. Does not wait until it is ready."""
        with self._lock:
            self._start()

    def fork(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[int, int, int],
    ) -> ForkedProcess | None:
        """Start a process; waits until the server is ready.

        Args:
            module: Whose `main(arguments)` it runs.
            arguments: For `main`.
            environment: Variables beside those of the engine.
            streams: Descriptors of its standard input, output and error, which stay open here.

        Returns:
            None if the server ended meanwhile; the next call starts another one.
        """
        with self._lock:
            server = self._start()
        request = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
        }
        process = server.fork(request, streams)
        if process is None:
            _log.warning("the fork server has ended; what libraries said is in %s", self._log)
        return process

    def close(self) -> None:
        """Stop it, also while it loads the libraries; its processes continue."""
        if self._server is not None:
            self._server.close()

    def _start(self) -> _RunningServer:
        if self._server is None or not self._server.is_running:
            self.close()
            self._server = _RunningServer(self._log, self._threads)
        return self._server


class _RunningServer:
    """The server's process, and a thread that reads its messages."""

    def __init__(self, log: Path, threads: int | None) -> None:
        environment = worker_environment(None, threads) | {"OPENBLAS_NUM_THREADS": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other, log.open("ab") as output:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunesmith.engine.fork_server.server"],
                stdin=other.fileno(),
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self.is_ready: bool = False
        self._numbers = itertools.count()
        self._answers: dict[int, Future[ForkedProcess | None]] = {}
        self._reader = threading.Thread(target=self._read, name="fork server", daemon=True)
        self._reader.start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def fork(
        self, request: Mapping[str, object], streams: tuple[int, int, int]
    ) -> ForkedProcess | None:
        number = next(self._numbers)
        message = json.dumps({"fork": number, **request}).encode()
        answer = self._answers[number] = Future()
        try:
            socket.send_fds(self._socket, [message], streams)
            return answer.result(_FORK_TIMEOUT_SECONDS)
        except TimeoutError:
            self._process.kill()
            return None
        except OSError:  # it has ended
            return None
        finally:
            del self._answers[number]

    def close(self) -> None:
        self._process.kill()  # it keeps nothing
        self._process.wait()
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        processes: dict[int, ForkedProcess] = {}
        with contextlib.suppress(ConnectionError):
            while received := self._socket.recv(LARGEST_MESSAGE):
                message = json.loads(received)
                if "ready" in message:
                    self.is_ready = True
                elif "forked" in message:
                    process = ForkedProcess(message["pid"], self)
                    processes[message["forked"]] = process
                    self._answers[message["forked"]].set_result(process)
                elif "ended" in message:
                    processes.pop(message["ended"]).status = message["status"]
        for answer in list(self._answers.values()):
            if not answer.done():
                answer.set_result(None)
