"""Generates answers with a vLLM server that the engine itself starts, watches and stops.

One base model is served at a time, with any number of adapters. A request for another one waits
until the requests before it are answered; then the server is stopped and started with the other
model. What a request is translated to is `vllm_backend`'s business, and how the process lives that
of `vllm_process`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from tunesmith.engine.domain.errors import ErrorKind

from .adapter_probe import adapter_rank
from .generation_errors import GenerationError, WorkerStoppedError
from .vllm_environment import installed_program
from .vllm_process import VllmCommand, VllmProcess, lora_rank_limit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from tunesmith.engine.models.gpus import GpuPool
    from tunesmith.engine.models.model_info import ServableModel

    from .generation import GenerationDelta, GenerationRequest

__all__ = ["ManagedVllmBackend", "ManagedVllmSettings"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

# What requests see of the end of the process.
BROKEN_OFF = {"serving_unreachable", "serving_interrupted"}


@dataclass(frozen=True, slots=True)
class ManagedVllmSettings:
    """How the engine starts vLLM.

    Attributes:
        state: Folder with its environment, its log and its caches.
        command: What starts it; empty for the program of its environment.
        arguments: Further arguments for it.
        gpus: Number of GPUs over which it divides a model.
    """

    state: Path
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    gpus: int = 1

    def program(self) -> tuple[str, ...]:
        """Return what starts vLLM.

        Raises:
            GenerationError: It is not installed.
        """
        program = self.command or installed_program(self.state)
        if program is None:
            raise GenerationError(
                "vLLM, which is to answer for this engine, is not installed. Run `tunesmith engine "
                "install vllm`, or name a program as `command` under [serving].",
                kind=ErrorKind.UNAVAILABLE,
                code="vllm_not_installed",
            )
        return program


class ManagedVllmBackend:
    """Generates answers with a vLLM server of the engine's own; see `ServingBackend`.

    Args:
        settings: How to start it.
        pool: The GPUs of this machine.
    """

    def __init__(self, settings: ManagedVllmSettings, pool: GpuPool) -> None:
        self._settings = settings
        self._pool = pool
        self._process: VllmProcess | None = None
        self._turn = asyncio.Lock()  # first come, first served: so every model gets its turn
        self._stopped = False

    @property
    def running(self) -> bool:
        """True while a server runs or starts."""
        return self._process is not None

    async def stop(self) -> None:
        """Stop the server; pending requests fail."""
        self._stopped = True
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    async def release_gpu(self) -> None:
        """Stop the server once the requests that came before are answered."""
        async with self._turn:
            await self._retire()

    async def loaded(self) -> dict[Path, int]:
        """Return the folders of this engine's models in vLLM and the bytes of their weights."""
        process = self._process
        if process is None or not process.answers:
            return {}
        return await (await process.backend()).loaded()

    async def load(self, model: ServableModel) -> None:
        """Start the server with a model's base, if it does not run, and load the adapter."""
        async with self._serving(model) as process:
            await (await process.backend()).load(model)

    async def unload(self, folder: Path) -> None:
        """Unload the adapter of a model that is being deleted; stop a server of its weights."""
        process = self._process
        if process is None:
            return
        if process.command.model == folder:
            await self.release_gpu()
        elif process.answers:
            await (await process.backend()).unload(folder)

    async def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer as they come; the last one carries the usage.

        A request of which nothing has been answered yet when the server ends is sent again.
        """
        for is_last in (False, True):
            began = False
            try:
                async with self._serving(model) as process:
                    backend = await process.backend()
                    try:
                        async with contextlib.aclosing(backend.generate(model, request)) as deltas:
                            async for delta in deltas:
                                began = True
                                yield delta
                    except GenerationError as error:
                        if error.code in BROKEN_OFF:
                            await process.wait_until_known(backend)
                        raise
            except GenerationError as error:
                if error.code not in BROKEN_OFF:
                    raise
                if began or is_last:
                    raise WorkerStoppedError(
                        "The vLLM process that generates answers stopped while it worked on this "
                        "request. Send the request again: the engine restarts the process by "
                        "itself. The engine's log says why it stopped.",
                        code="generator_stopped",
                    ) from error
            else:
                return

    @contextlib.asynccontextmanager
    async def _serving(self, model: ServableModel) -> AsyncIterator[VllmProcess]:
        """Hold the server that can answer as a model; it is not stopped meanwhile."""
        async with self._turn:
            process = self._process
            wanted = await anyio.to_thread.run_sync(self._command, model)
            if process is None or process.gave_up or not _serves(process.command, wanted):
                await self._retire()
                process = self._process = self._started(wanted)
            use = contextlib.ExitStack()
            use.enter_context(process.in_use())
        with use:
            yield process

    def _started(self, command: VllmCommand) -> VllmProcess:
        if self._stopped:
            raise WorkerStoppedError("The engine is shutting down.", code="shutting_down")
        lease = None
        if self._pool.gpus:
            lease = self._pool.acquire(f"vLLM with {command.name}", command.gpus, for_serving=True)
            if lease is None:
                raise GenerationError(
                    f"vLLM needs {command.gpus} of the {len(self._pool.gpus)} GPUs of this "
                    "machine, and trainings use them. It answers again when they have ended.",
                    kind=ErrorKind.UNAVAILABLE,
                    code="no_free_gpu",
                )
        return VllmProcess(command, lease)

    async def _retire(self) -> None:
        """Stop the server once nobody uses it. Call it while holding the turn."""
        process = self._process
        if process is not None:
            await process.unused()
            self._process = None
            await process.stop()

    def _command(self, model: ServableModel) -> VllmCommand:
        """Return how vLLM has to be started for a model."""
        folder, name, rank, tokenizer = model.base_path, model.base_model, 0, None
        if model.adapter_path is not None:
            if (model.adapter_path / "adapter_config.json").is_file():
                rank = _rank(model.adapter_path)
            else:  # weights of its own
                folder, name = model.adapter_path, model.name
                if not (folder / "tokenizer_config.json").is_file():
                    tokenizer = model.base_path
        limit = lora_rank_limit(rank)
        if limit is None:
            raise GenerationError(
                f"The adapter of {model.name} has the rank {rank}, and vLLM serves none of a "
                'higher rank than 512. Serve it with `backend = "embedded"` under [serving].',
                code="unsupported_adapter",
            )
        settings = self._settings
        return VllmCommand(
            program=settings.program(),
            model=folder,
            name=name,
            tokenizer=tokenizer,
            lora_rank=limit,
            gpus=settings.gpus,
            arguments=settings.arguments,
            state=settings.state,
        )


def _serves(running: VllmCommand, wanted: VllmCommand) -> bool:
    return running.model == wanted.model and running.lora_rank >= wanted.lora_rank


def _rank(folder: Path) -> int:
    try:
        return adapter_rank(folder)
    except (OSError, ValueError) as error:
        raise GenerationError(
            f"The adapter cannot be read: {error}", kind=ErrorKind.INTERNAL, code="model_broken"
        ) from None
