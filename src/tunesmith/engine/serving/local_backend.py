"""Generates answers with a process on this machine, the model worker.

The server never imports torch. Everything heavy happens in the worker, which is started at
the first request (or by `load`) and stopped after it has been idle for a while. If it dies,
its pending requests fail with `WorkerStoppedError`, and the next request starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.engine.models.gpus import NO_GPU

from .generation_errors import WorkerStoppedError
from .worker_client import fork_worker, start_worker
from .worker_protocol import WorkerSettings, delta_from_json, model_to_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tunesmith.engine.fork_server import ForkServer
    from tunesmith.engine.models.gpus import GpuPool
    from tunesmith.engine.models.model_info import ServableModel

    from .generation import GenerationDelta, GenerationRequest
    from .worker_client import WorkerClient

__all__ = ["LocalBackend", "create_local_backend"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")


def create_local_backend(
    *,
    threads: int | None = None,
    memory_bytes: int | None = None,
    idle_seconds: float | None = 900.0,
    settings: WorkerSettings | None = None,
    pool: GpuPool | None = None,
    fork_server: ForkServer | None = None,
) -> LocalBackend:
    """Return a backend whose worker is not started yet.

    Args:
        threads: Threads that compute; None for as many as the machine has to spare when
            the worker starts.
        memory_bytes: Bytes of weights kept in memory; None for half of the memory.
        idle_seconds: The worker is stopped after so long without a request; None for never.
        settings: All settings of the worker; `threads` and `memory_bytes` take precedence.
        pool: The GPUs of this machine; None where none are leased.
        fork_server: Forks the worker, where no GPU is leased; None for a new process.
    """
    base = settings or WorkerSettings()
    chosen = replace(
        base,
        threads=threads or base.threads,
        memory_bytes=memory_bytes or base.memory_bytes,
    )
    return LocalBackend(chosen, idle_seconds, pool, fork_server)


class LocalBackend:
    """Generates answers in a child process; see `ServingBackend`.

    Belongs to one event loop. `generate` and `load` start the worker where needed; `start`
    only makes that happen early.

    Args:
        settings: How the worker behaves.
        idle_seconds: Time without requests after which it is stopped; None for never.
        pool: The GPUs of this machine; None where none are leased.
        fork_server: Forks the worker, where no GPU is leased; None for a new process.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        idle_seconds: float | None,
        pool: GpuPool | None = None,
        fork_server: ForkServer | None = None,
    ) -> None:
        self._settings = settings
        self._idle_seconds = idle_seconds
        self._pool = pool
        self._fork_server = fork_server
        self._has_gpu = False
        self._worker: WorkerClient | None = None
        self._lock: asyncio.Lock | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """True while the worker runs."""
        return self._worker is not None and self._worker.alive

    @property
    def pending(self) -> frozenset[int]:
        """Numbers of the requests that are not answered yet."""
        return frozenset() if self._worker is None else frozenset(self._worker.pending)

    @property
    def pid(self) -> int | None:
        """The worker's process id, or None."""
        return self._worker.pid if self._worker is not None and self._worker.alive else None

    async def start(self) -> None:
        """Start the worker, if it does not run, and wait until it takes requests."""
        self._closed = False
        await self._live_worker()

    async def stop(self) -> None:
        """Stop the worker; pending requests fail with `WorkerStoppedError`."""
        self._closed = True
        await self._stop_worker()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def release_gpu(self) -> None:
        """Have the next requests answered by a worker on the processor, until a GPU is free again.

        The worker on the GPU ends when it has answered what it works on.
        """
        if self._has_gpu:
            self._replace_worker()

    async def load(self, model: ServableModel) -> None:
        """Load a model, so that its first request need not wait.

        Raises:
            GenerationError: It cannot be loaded.
        """
        command = {"kind": "load", "model": model_to_json(model)}
        async with contextlib.aclosing(self._request(command)) as reports:
            async for _report in reports:
                pass

    async def loaded(self) -> dict[Path, int]:
        """Return the folders of the models and adapters in memory and the bytes of each.

        Waits while a model is being loaded.

        Raises:
            WorkerStoppedError: The worker ended meanwhile.
        """
        if not self.running:
            return {}
        sizes: dict[str, int] = {}
        async with contextlib.aclosing(self._request({"kind": "loaded"})) as reports:
            async for report in reports:
                sizes |= report["sizes"]
        return {Path(folder): size for folder, size in sizes.items()}

    async def unload(self, folder: Path) -> None:
        """Unload the model in a folder; does not wait for it."""
        if self._worker is not None and self._worker.alive:
            self._worker.notify({"kind": "unload", "folder": str(folder)})

    async def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer as they come; the last one carries the usage.

        Closing the iterator early stops the generation.

        Raises:
            GenerationError: The request cannot be answered.
            WorkerStoppedError: The worker ended meanwhile.
        """
        command = {
            "kind": "generate",
            "model": model_to_json(model),
            "request": request.model_dump(mode="json", exclude_defaults=True),
        }
        owner = (request.organization, request.key)
        async with contextlib.aclosing(self._request(command, owner)) as reports:
            async for report in reports:
                delta = delta_from_json(report)
                yield delta
                if delta.usage is not None:
                    return

    async def _request(
        self, command: dict[str, Any], owner: tuple[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        worker = await self._live_worker()
        try:
            async with contextlib.aclosing(worker.request(command, owner)) as reports:
                async for report in reports:
                    yield report
        finally:
            self._start_idle_timer()

    async def _live_worker(self) -> WorkerClient:
        """Return the worker, started where needed, once it takes requests."""
        self._cancel_idle_timer()
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            worker = self._worker
            if worker is not None and self._could_have_gpu() and not worker.pending:
                self._replace_worker()
                worker = None
            if worker is None or not worker.alive:
                if self._closed:
                    raise _shutting_down()
                worker = self._worker = await self._start_worker()
        await worker.wait_until_ready()
        return worker

    def _could_have_gpu(self) -> bool:
        """Return whether the worker is on the processor although a GPU is free now."""
        pool = self._pool
        if pool is None or not pool.gpus or self._has_gpu:
            return False
        return pool.has_free(for_serving=True)

    async def _start_worker(self) -> WorkerClient:
        if self._pool is None or not self._pool.gpus:
            return await self._fork_worker() or await start_worker(self._settings)
        lease = self._pool.acquire("serving", for_serving=True)
        self._has_gpu = lease is not None
        if lease is None:
            logger.warning("trainings use every GPU: answers are generated on the processor now")
            return await start_worker(replace(self._settings, device="cpu"), NO_GPU)
        try:
            return await start_worker(self._settings, lease.variables, lease.descriptors)
        finally:
            lease.close()  # the worker has it

    async def _fork_worker(self) -> WorkerClient | None:
        """Return a worker that was forked; None where that is impossible."""
        if self._fork_server is None:
            return None
        worker = await fork_worker(self._settings, self._fork_server)
        if not self._closed:
            return worker
        if worker is not None:  # closed while the fork server loaded the libraries
            await worker.stop()
        raise _shutting_down()

    def _replace_worker(self) -> None:
        """Have the next request start another worker; this one ends with its last request."""
        worker, self._worker = self._worker, None
        self._has_gpu = False
        if worker is None:
            return
        task = asyncio.get_running_loop().create_task(worker.stop_when_unused())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        self._cancel_idle_timer()
        if worker is not None:
            await worker.stop()

    def _cancel_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _start_idle_timer(self) -> None:
        if self._idle_seconds is None or self._worker is None or self._worker.pending:
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self._idle_seconds, self._stop_idle_worker)

    def _stop_idle_worker(self) -> None:
        if self._worker is not None and not self._worker.pending:
            task = asyncio.get_running_loop().create_task(self._stop_worker())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _shutting_down() -> WorkerStoppedError:
    return WorkerStoppedError("The engine is shutting down.", code="shutting_down")
