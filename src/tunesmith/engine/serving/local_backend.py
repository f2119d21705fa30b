"""The server's side of the generating process: start, ask, cancel, start again.

The server never imports torch. Everything heavy happens in one child process, which is
started at the first request (or by `load`), spoken to in JSON lines, and stopped
after it has been idle for a while. If it dies, the requests that it was answering fail
with `WorkerStoppedError`, and the next request starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.engine.training.environment import worker_environment

from .generation import delta_from_json, encode_line, model_to_json
from .generation_errors import GenerationError, WorkerStoppedError
from .settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tunesmith.engine.models.servable_model import ServableModel

    from .generation import GenerationDelta, GenerationRequest

__all__ = ["LocalBackend", "create_local_backend"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

LINE_LIMIT = 1 << 28  # a scored prompt of a long context, with five rivals a token
MOST_IN_FLIGHT = 1024
START_SECONDS = 300.0  # torch on a machine that is busy with everything else
STOP_SECONDS = 5.0


def create_local_backend(
    *,
    threads: int | None = None,
    memory_bytes: int | None = None,
    idle_seconds: float | None = 900.0,
    settings: WorkerSettings | None = None,
) -> LocalBackend:
    """Return a backend whose worker is not started yet.

    Args:
        threads: Threads that compute; None for as many as the machine has to spare when
            the process starts.
        memory_bytes: Bytes of weights held in memory; None for half of the memory.
        idle_seconds: The process is stopped after so long without a request; None
            lets it stay.
        settings: All settings of the process; `threads` and `memory_bytes` are put
            into it where they are given.
    """
    base = settings or WorkerSettings()
    chosen = WorkerSettings(
        **{
            **asdict(base),
            "threads": threads or base.threads,
            "memory_bytes": memory_bytes or base.memory_bytes,
        }
    )
    return LocalBackend(chosen, idle_seconds)


@dataclass(slots=True)
class _Worker:
    """A running child and the answers that it owes."""

    process: asyncio.subprocess.Process
    reader: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    owed: dict[int, asyncio.Queue[dict[str, Any] | None]] = field(default_factory=dict)


class LocalBackend:
    """Answers generation requests through a child process.

    Belongs to one event loop. `generate` and `load` start the process where needed;
    `start` only makes that happen early.

    Args:
        settings: How the child behaves.
        idle_seconds: Time without requests after which it is stopped; None for never.
    """

    def __init__(self, settings: WorkerSettings, idle_seconds: float | None) -> None:
        self._settings = settings
        self._idle_seconds = idle_seconds
        self._numbers = itertools.count(1)
        self._worker: _Worker | None = None
        self._lock: asyncio.Lock | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """True while the child process lives."""
        return self._worker is not None and self._worker.process.returncode is None

    @property
    def in_flight(self) -> frozenset[int]:
        """Numbers of the requests that wait for an answer."""
        return frozenset() if self._worker is None else frozenset(self._worker.owed)

    @property
    def pid(self) -> int | None:
        """The child's process id, or None."""
        return self._worker.process.pid if self._worker is not None and self.running else None

    async def start(self) -> None:
        """Start the child process, if it does not run, and wait until it takes requests."""
        self._closed = False
        await self._live_worker()

    async def stop(self) -> None:
        """Stop the child process; requests in flight fail with `WorkerStoppedError`."""
        self._closed = True
        await self._stop_worker()

    async def load(self, model: ServableModel) -> None:
        """Load a model, so that its first request need not wait.

        Raises:
            GenerationError: It cannot be loaded.
        """
        command = {"kind": "load", "model": model_to_json(model)}
        async with contextlib.aclosing(self._reports(command)) as reports:
            async for _report in reports:
                pass

    async def loaded(self) -> dict[Path, int]:
        """Return the folders of the models and adapters in memory and the bytes of each.

        Waits while a model is being loaded.

        Raises:
            WorkerStoppedError: The process ended meanwhile.
        """
        if not self.running:
            return {}
        sizes: dict[str, int] = {}
        async with contextlib.aclosing(self._reports({"kind": "loaded"})) as reports:
            async for report in reports:
                sizes |= report["sizes"]
        return {Path(folder): size for folder, size in sizes.items()}

    async def unload(self, folder: Path) -> None:
        """Let go of the model that lies in a folder; nothing waits for it."""
        if self._worker is not None and self.running:
            self._tell(self._worker, {"kind": "unload", "folder": str(folder)})

    async def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer as they come; the last one carries the usage.

        Closing the iterator early stops the generation.

        Raises:
            GenerationError: The request cannot be answered.
            WorkerStoppedError: The process ended meanwhile.
        """
        command = {
            "kind": "generate",
            "model": model_to_json(model),
            "request": request.model_dump(mode="json", exclude_defaults=True),
        }
        async with contextlib.aclosing(self._reports(command)) as reports:
            async for report in reports:
                delta = delta_from_json(report)
                yield delta
                if delta.usage is not None:
                    return

    async def _reports(self, command: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send a command; yield the reports that answer it, up to its "done"."""
        worker = await self._live_worker()
        if len(worker.owed) >= MOST_IN_FLIGHT:
            raise GenerationError(
                f"The engine is answering {MOST_IN_FLIGHT} requests already. Try again shortly.",
                status=429,
                code="engine_overloaded",
            )
        number = next(self._numbers)
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        worker.owed[number] = queue
        settled = False
        try:
            await self._send(worker, {**command, "id": number})
            while (report := await queue.get()) is not None:
                if report["kind"] == "error":
                    settled = True
                    raise GenerationError(
                        report["message"],
                        status=report["status"],
                        param=report["param"],
                        code=report["code"],
                    )
                settled = report["kind"] == "done" or "u" in report
                if report["kind"] == "done":
                    return
                yield report
            settled = True
            raise _stopped()
        finally:
            worker.owed.pop(number, None)
            if not settled and self._worker is worker:
                self._tell(worker, {"kind": "cancel", "id": number})
            self._watch_idleness()

    def _tell(self, worker: _Worker, command: dict[str, Any]) -> None:
        """Send a command that nothing waits for."""
        stdin = worker.process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(encode_line(command))

    async def _send(self, worker: _Worker, command: dict[str, Any]) -> None:
        stdin = worker.process.stdin
        try:
            if stdin is None or stdin.is_closing():
                raise _stopped()
            stdin.write(encode_line(command))
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise _stopped() from error

    async def _live_worker(self) -> _Worker:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            worker = self._worker
            if worker is None or worker.process.returncode is not None or worker.reader is None:
                if self._closed:
                    raise WorkerStoppedError(
                        "The engine is shutting down.", status=503, code="shutting_down"
                    )
                worker = self._worker = await self._start_worker()
        try:
            await asyncio.wait_for(worker.ready.wait(), START_SECONDS)
        except TimeoutError:
            await self._stop_worker()
            raise _stopped() from None
        if worker.process.returncode is not None:
            raise _stopped()
        return worker

    async def _start_worker(self) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # never import from the folder that the server was started in
            "-m",
            "tunesmith.engine.serving.model_worker",
            json.dumps(asdict(self._settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=worker_environment(threads=self._settings.threads),
            limit=LINE_LIMIT,
            # A Ctrl-C on the server's terminal is the server's to handle.
            start_new_session=True,
        )
        worker = _Worker(process)
        worker.reader = asyncio.create_task(self._read(worker))
        return worker

    async def _read(self, worker: _Worker) -> None:
        """Hand each report to the request that it answers, until the child ends."""
        stdout = worker.process.stdout
        if stdout is None:
            return
        try:
            async for line in stdout:
                report = json.loads(line)
                if report["kind"] == "ready":
                    worker.ready.set()
                elif (queue := worker.owed.get(report["id"])) is not None:
                    queue.put_nowait(report)
        finally:
            code = await worker.process.wait()
            if not self._closed and self._worker is worker:
                logger.warning("the generating process ended with status %s", code)
            if self._worker is worker:
                self._worker = None
            worker.ready.set()
            for queue in worker.owed.values():
                queue.put_nowait(None)

    async def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if worker is None:
            return
        if worker.process.stdin is not None:
            worker.process.stdin.close()  # the child ends with its input
        try:
            await asyncio.wait_for(worker.process.wait(), STOP_SECONDS)
        except TimeoutError:
            worker.process.kill()
        if worker.reader is not None:
            await worker.reader

    def _watch_idleness(self) -> None:
        worker = self._worker
        if self._idle_seconds is None or worker is None or worker.owed:
            return
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_seconds, self._stop_idle)

    def _stop_idle(self) -> None:
        if self._worker is not None and not self._worker.owed:
            task = asyncio.get_running_loop().create_task(self._stop_worker())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _stopped() -> WorkerStoppedError:
    return WorkerStoppedError(
        "The process that generates answers ended while it worked on this request. Send it "
        "again: the process is started anew. The engine's log says why it ended.",
        status=503,
        code="generator_stopped",
    )
