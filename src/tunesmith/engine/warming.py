"""Models loaded before anybody asks for them, so that the first answer need not wait.

Loading the libraries and a base model takes seconds; a job's end is known before it comes.
What is already in memory costs next to nothing to ask for again.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from .models.servable import ServableModel
    from .models_registry import ModelRegistry
    from .serving import Serving

__all__ = ["Warmer"]

_log = logging.getLogger("tunesmith.engine")

_SPARE_BYTES = 1 << 30  # the libraries, and what a pass through the model needs


class Warmer:
    """Has models loaded by the generating process, where the memory allows it.

    Args:
        registry: Finds the models.
        generator: Loads them.
    """

    def __init__(self, registry: ModelRegistry, generator: Serving) -> None:
        self._registry = registry
        self._generator = generator
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin; call it in the event loop that serves."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Load nothing more."""
        self._loop = None
        for task in self._tasks:
            task.cancel()

    def want(self, name: str, organization: str) -> None:
        """Load the model that goes by this name in the organisation. Safe from any thread."""

        def begin() -> None:
            task = asyncio.ensure_future(self._load(name, organization))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if self._loop is not None:
            self._loop.call_soon_threadsafe(begin)

    async def _load(self, name: str, organization: str) -> None:
        try:
            model = await anyio.to_thread.run_sync(self._registry.resolve, name, organization)
            if self._generator.running or await anyio.to_thread.run_sync(_fits, model):
                await self._generator.prewarm(model)
            else:
                _log.info("%s is loaded when it is first asked for: memory is short", name)
        except TunesmithError as error:
            _log.warning("the model %s could not be loaded: %s", name, error)


def _fits(model: ServableModel) -> bool:
    """Return whether a generating process with this model leaves memory to the others."""
    folders = [model.base_path, *([model.adapter_path] if model.adapter_path else [])]
    weights = sum(
        path.stat().st_size for folder in folders for path in folder.glob("*.safetensors")
    )
    return weights + _SPARE_BYTES < _available_memory()


def _available_memory() -> float:
    """Return the bytes that programs can still get; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(number) * 1024 for number in kilobytes), float("inf"))
