"""The server's end of the pipes to one model worker: start it, send commands, read its reports.

The worker is a new process, or a fork of one that has loaded the libraries, which takes a second
instead of five.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sys
from dataclasses import asdict, replace
from socket import socketpair
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.training.environment import worker_environment

from .generation_errors import GenerationError, WorkerStoppedError
from .worker_protocol import encode_line, error_from_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from socket import socket

    from tunesmith.engine.fork_server import ForkedProcess, ForkServer

    from .worker_protocol import WorkerSettings

__all__ = ["WorkerClient", "fork_worker", "start_worker"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

LINE_LIMIT = 1 << 28  # a scored prompt of a long context, with five top log probabilities a token
MAX_PENDING = 1024
START_SECONDS = 300.0  # importing torch on a machine that is busy with everything else
STOP_SECONDS = 5.0
END_POLL_SECONDS = 0.02
UNUSED_POLL_SECONDS = 0.1
STANDARD_ERROR = 2
_MODULE = "tunesmith.engine.serving.model_worker"


class _Process(Protocol):
    """What is used of an `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    async def wait(self) -> int: ...

    def kill(self) -> None: ...


class WorkerClient:
    """A running model worker. Belongs to one event loop; made by `start_worker`, `fork_worker`.

    Attributes:
        pending: The reports of each request that is not answered yet, by the request's number;
            None marks the end of the worker.
    """

    def __init__(self, process: _Process) -> None:
        self.pending: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._owners: dict[int, tuple[str, str] | None] = {}
        self._process = process
        self._numbers = itertools.count(1)
        self._ready = asyncio.Event()
        self._stopping = False
        self._reader: asyncio.Task[None] = asyncio.create_task(self._read_reports())

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait_until_ready(self) -> None:
        """Wait until the worker takes requests.

        Raises:
            WorkerStoppedError: It ended or did not get ready; it has been stopped.
        """
        try:
            await asyncio.wait_for(self._ready.wait(), START_SECONDS)
        except TimeoutError:
            await self.stop()
            raise _stopped() from None
        if not self.alive:
            raise _stopped()

    async def request(
        self, command: dict[str, Any], owner: tuple[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Send a command; yield its reports up to its last one.

        Closing the iterator early cancels the command.

        Args:
            command: The command.
            owner: The organisation and the key that it is for, each of which has a limited number
                of places in the queue; None for the engine itself.

        Raises:
            GenerationError: The worker reports an error, or too many requests are pending.
            WorkerStoppedError: The worker ended meanwhile.
        """
        self._check_places(owner)
        number = next(self._numbers)
        reports: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.pending[number] = reports
        self._owners[number] = owner
        complete = False
        try:
            await self._send({**command, "id": number})
            while (report := await reports.get()) is not None:
                if report["kind"] == "error":
                    complete = True
                    raise error_from_json(report)
                complete = report["kind"] == "done" or "u" in report
                if report["kind"] == "done":
                    return
                yield report
            complete = True
            raise _stopped()
        finally:
            self.pending.pop(number, None)
            self._owners.pop(number, None)
            if not complete and not self._stopping:
                self.notify({"kind": "cancel", "id": number})

    def _check_places(self, owner: tuple[str, str] | None) -> None:
        """Raise GenerationError if there is no place in the queue for another request.

        An organisation may hold as many places as are free, and a key half as many: alone it gets
        half of them, and there is always a place left for the next one.
        """
        free = MAX_PENDING - len(self.pending)
        if owner is None:
            return
        organization = sum(one is not None and one[0] == owner[0] for one in self._owners.values())
        key = sum(one == owner for one in self._owners.values())
        if organization < free and key < (free + 1) // 2:
            return
        raise GenerationError(
            f"{key} requests of this key and {organization} of its organisation are waiting for "
            "an answer, as many as the engine has places for. Try again shortly.",
            kind=ErrorKind.LIMIT_REACHED,
            code="engine_overloaded",
        )

    def notify(self, command: dict[str, Any]) -> None:
        """Send a command that gets no report."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(encode_line(command))

    async def stop_when_unused(self) -> None:
        """Stop the process once all requests are answered; at once where this is cancelled."""
        try:
            while self.pending and self.alive:  # noqa: ASYNC110 - rare, and for seconds
                await asyncio.sleep(UNUSED_POLL_SECONDS)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop the process; pending requests fail with `WorkerStoppedError`."""
        self._stopping = True
        if self._process.stdin is not None:
            self._process.stdin.close()  # the worker ends with its input
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
        await self._reader

    async def _send(self, command: dict[str, Any]) -> None:
        stdin = self._process.stdin
        try:
            if stdin is None or stdin.is_closing():
                raise _stopped()
            stdin.write(encode_line(command))
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise _stopped() from error

    async def _read_reports(self) -> None:
        """Pass each report to the request that it answers, until the worker ends."""
        stdout = self._process.stdout
        if stdout is None:
            return
        try:
            async for line in stdout:
                report = json.loads(line)
                if report["kind"] == "ready":
                    self._ready.set()
                elif (reports := self.pending.get(report["id"])) is not None:
                    reports.put_nowait(report)
        finally:
            status = await self._process.wait()
            if not self._stopping:
                logger.warning("the model worker ended with status %s", status)
            self._ready.set()
            for reports in self.pending.values():
                reports.put_nowait(None)


async def start_worker(
    settings: WorkerSettings,
    variables: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> WorkerClient:
    """Start a model worker; it takes requests later, see `WorkerClient.wait_until_ready`.

    Args:
        settings: How it behaves.
        variables: Environment variables for it alone.
        descriptors: Open files that it inherits.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # never import from the folder that the server was started in
        "-m",
        _MODULE,
        json.dumps(asdict(settings)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=worker_environment(threads=settings.threads) | dict(variables or {}),
        pass_fds=descriptors,
        limit=LINE_LIMIT,
        # A Ctrl-C on the server's terminal is for the server alone.
        start_new_session=True,
    )
    return WorkerClient(process)


async def fork_worker(settings: WorkerSettings, server: ForkServer) -> WorkerClient | None:
    """Start a model worker as a fork, like `start_worker`.

    Args:
        settings: How it behaves.
        server: Forks it, once it has loaded the libraries.

    Returns:
        None if the fork server ended meanwhile.
    """
    forked = await anyio.to_thread.run_sync(_fork, settings, server)
    if forked is None:
        return None
    process, own = forked
    reader, writer = await asyncio.open_connection(sock=own, limit=LINE_LIMIT)
    return WorkerClient(_Forked(process, reader, writer))


def _fork(settings: WorkerSettings, server: ForkServer) -> tuple[ForkedProcess, socket] | None:
    """Return a forked worker and the socket to its input and output."""
    arguments = [json.dumps(asdict(replace(settings, threads=_threads(settings))))]
    own, other = socketpair()
    with other:
        streams = (other.fileno(), other.fileno(), STANDARD_ERROR)
        process = server.fork(_MODULE, arguments, {}, streams)
    if process is None:
        own.close()
        return None
    return process, own


def _threads(settings: WorkerSettings) -> int | None:
    """Return the threads that a new process would have: a fork has those of trainings."""
    threads = worker_environment(threads=settings.threads)["OMP_NUM_THREADS"].partition(",")[0]
    return int(threads) or None if threads.isdecimal() else None


class _Forked:
    """A forked process as an `asyncio.subprocess.Process`."""

    def __init__(
        self, process: ForkedProcess, stdout: asyncio.StreamReader, stdin: asyncio.StreamWriter
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    async def wait(self) -> int:
        while (status := self._process.poll()) is None:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(END_POLL_SECONDS)
        self.stdin.close()
        return status

    def kill(self) -> None:
        self._process.kill()


def _stopped() -> WorkerStoppedError:
    return WorkerStoppedError(
        "The process that generates answers stopped while it worked on this request. Send the "
        "request again: the process restarts by itself. The engine's log says why it stopped.",
        code="generator_stopped",
    )
