"""Loads models into memory before the first request for them, so that it need not wait.

Loading the libraries and a base model takes seconds. The base of a training is loaded when
the training starts and again shortly before its end; its result is loaded when it exists.
Loading a model that is already in memory costs next to nothing. Where there are GPUs, nothing is
loaded while trainings use them all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError

from tunesmith.engine.models.memory_table import available_host_memory
from tunesmith.engine.models.model_info import weights_bytes
from tunesmith.engine.store import job_queries
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from tunesmith.engine.model_registry import ModelRegistry
    from tunesmith.engine.models.gpus import GpuPool
    from tunesmith.engine.models.model_info import ServableModel
    from tunesmith.engine.serving import ServingBackend
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

__all__ = ["ModelPreloader"]

_log = logging.getLogger("tunesmith.engine")

_OVERHEAD_BYTES = 1 << 30  # the libraries, and the activations of a forward pass
_LEAD_SECONDS = 60.0
_GPU_WAIT_SECONDS = 5


class ModelPreloader:
    """Follows the trainings and loads the models that will be requested next.

    It follows the rows of the jobs, so it also notices trainings that an earlier server
    started.

    Args:
        database: Where the jobs are.
        registry: Finds the models.
        backend: Loads them.
        pool: The GPUs of this machine.
        enabled: Whether anything is loaded before it is requested.
    """

    def __init__(
        self,
        database: Database,
        registry: ModelRegistry,
        backend: ServingBackend,
        pool: GpuPool,
        *,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._database = database
        self._registry = registry
        self._backend = backend
        self._pool = pool
        self._is_releasing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._near_end: dict[str, bool] = {}

    def start(self) -> None:
        """Begin; call it in the event loop that serves."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Load nothing more."""
        self._loop = None
        for task in self._tasks:
            task.cancel()

    def update(self, claimed: Sequence[JobRow]) -> None:
        """Compare all jobs that have a worker now with those of the last call.

        A training's base is loaded at its start, because it may be short, and again within
        a minute of its end, by when an idle model worker may have been stopped. Call it
        from one thread only, which need not be the event loop's.
        """
        running = {job.id: job for job in claimed if job.status == "running"}
        for job in running.values():
            self.training_started(job)
            if not self._near_end[job.id] and _is_near_end(job):
                self._near_end[job.id] = True
                self._preload_parent(job)
        for job_id in self._near_end.keys() - running.keys():
            del self._near_end[job_id]
            with self._database.read() as connection:
                ended = job_queries.find(connection, job_id)
            if ended is not None and ended.fine_tuned_model is not None:
                self._preload(ended.fine_tuned_model, ended.organization)

    def training_started(self, job: JobRow) -> None:
        """Load the model that a training starts from, unless the training is known."""
        if job.id not in self._near_end:
            self._near_end[job.id] = False
            self._preload_parent(job)

    def release_gpu(self) -> None:
        """Have serving give its GPU to a training that waits. Safe from any thread."""
        self._run(self._release_gpu)

    def _preload_parent(self, job: JobRow) -> None:
        self._preload(job.parent_model or job.base_model, job.organization)

    def _preload(self, name: str, organization: str) -> None:
        """Load the organisation's model of that name. Safe from any thread."""
        if self._enabled:
            self._run(partial(self._load, name, organization))

    def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function in the event loop. Safe from any thread."""

        def begin() -> None:
            task = asyncio.ensure_future(function())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if self._loop is not None:
            self._loop.call_soon_threadsafe(begin)

    async def _release_gpu(self) -> None:
        if not self._is_releasing:  # it may take as long as the longest answer
            self._is_releasing = True
            try:
                await self._backend.release_gpu()
            finally:
                self._is_releasing = False

    async def _load(self, name: str, organization: str) -> None:
        try:
            model = await anyio.to_thread.run_sync(self._registry.resolve_model, name, organization)
            reason = await self._obstacle(model)
            if reason is None:
                await self._backend.load(model)
            else:
                _log.info("%s is not preloaded; its first request loads it: %s", name, reason)
        except (TunesmithError, SQLAlchemyError, OSError) as error:
            reason = str(error).partition("\n")[0]
            _log.warning("the model %s could not be preloaded: %s", name, reason)

    async def _obstacle(self, model: ServableModel) -> str | None:
        """Return why a model should not be loaded before it is requested; None if it should."""
        if self._backend.running:
            return None
        if not self._pool.gpus:
            fits = await anyio.to_thread.run_sync(_fits_in_memory, model)
            return None if fits else "not enough memory"
        for _ in range(_GPU_WAIT_SECONDS):  # a training that has just ended still has its card
            if await anyio.to_thread.run_sync(partial(self._pool.has_free, for_serving=True)):
                return None
            await asyncio.sleep(1)
        return "trainings use every GPU"


def _is_near_end(job: JobRow) -> bool:
    remaining = (job.estimated_finish or float("inf")) - time.time()
    return job.steps_done > 1 and remaining < _LEAD_SECONDS


def _fits_in_memory(model: ServableModel) -> bool:
    """Return whether a model worker with this model leaves memory to other processes."""
    folders = [model.base_path, *([model.adapter_path] if model.adapter_path else [])]
    weights = sum(map(weights_bytes, folders))
    return weights + _OVERHEAD_BYTES < available_host_memory()
