"""The generating process: reads commands on standard input, answers on standard output.

Started by `Generator` as `python -m tunesmith.engine.serving.model_worker SETTINGS`, with the
environment set before torch loads. A thread reads commands; everything else happens in
one loop that steps the batches of all bases in turn. The process ends when its input
does, so it never outlives the server. Whatever prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from .generation import GenerationRequest, delta_to_json, encode_line, model_from_json
from .settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.models.servable_model import ServableModel

__all__ = ["main"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

Commands: TypeAlias = "queue.SimpleQueue[dict[str, Any]]"


class _Worker:
    """The loop: take commands, step each busy base, report."""

    def __init__(self, settings: WorkerSettings, commands: Commands, output: BinaryIO) -> None:
        import torch  # noqa: PLC0415 - slow to import, and only here

        from tunesmith.engine.models.devices import best_dtype, pick_device  # noqa: PLC0415

        from .model_loader import LoadedModels  # noqa: PLC0415
        from .scheduler import BatchLimits  # noqa: PLC0415

        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = pick_device() if settings.device == "auto" else torch.device(settings.device)
        dtype = (
            best_dtype(device, old_gpu=torch.float16)
            if settings.dtype == "auto"
            else getattr(torch, settings.dtype)
        )
        self._commands = commands
        self._output = output
        self._limits = BatchLimits(
            rows=settings.rows,
            prompt_tokens=settings.prompt_tokens or (512 if device.type == "cpu" else 8192),
            cache_bytes=settings.cache_bytes,
        )
        self._batches: dict[Any, Any] = {}
        self._models = LoadedModels(
            budget=settings.memory_bytes or _half_of_memory(),
            device=device,
            dtype=dtype,
            is_busy=lambda base: base in self._batches and self._batches[base].busy,
            on_unload=lambda base: self._batches.pop(base, None),
        )

    def run(self) -> None:
        """Work for as long as the process lives."""
        self._report({"kind": "ready"})
        while True:
            busy = any(batch.busy for batch in self._batches.values())
            for command in self._take(block=not busy):
                self._obey(command)
            for base, batch in list(self._batches.items()):
                if batch.busy:
                    self._step(base, batch)

    def _take(self, *, block: bool) -> Iterator[dict[str, Any]]:
        if block:
            yield self._commands.get()
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._commands.get_nowait()

    def _obey(self, command: dict[str, Any]) -> None:
        kind = command["kind"]
        if kind == "unload":
            self._models.unload(Path(command["folder"]))
            return
        number = command["id"]
        if kind == "cancel":
            for batch in self._batches.values():
                batch.drop(number)
            return
        try:
            if kind == "load":
                self._load(model_from_json(command["model"]))
                self._report({"kind": "done", "id": number})
            elif kind == "loaded":
                sizes = {str(path): size for path, size in self._models.loaded().items()}
                self._report({"kind": "loaded", "id": number, "sizes": sizes})
                self._report({"kind": "done", "id": number})
            elif kind == "generate":
                self._generate(number, command)
        except Exception as error:  # noqa: BLE001 - one request must not stop the others
            self._fail(number, error)

    def _load(self, model: ServableModel) -> None:
        from .scheduler import Batch, accept  # noqa: PLC0415

        base, adapter = self._models.get(model)
        request = GenerationRequest(prompts=[[base.start_token]], max_tokens=1)
        batch = Batch(base, self._limits)
        list(batch.add(accept(0, request, base, adapter)))
        while batch.busy:
            list(batch.step())

    def _generate(self, number: int, command: dict[str, Any]) -> None:
        from .scheduler import Batch, accept  # noqa: PLC0415

        base, adapter = self._models.get(model_from_json(command["model"]))
        request = GenerationRequest.model_validate(command["request"])
        answers = accept(number, request, base, adapter)
        if base not in self._batches:
            self._batches[base] = Batch(base, self._limits)
        for delta in self._batches[base].add(answers):
            self._report({"kind": "delta", "id": number, **delta_to_json(delta)})

    def _step(self, base: Any, batch: Any) -> None:
        try:
            lines = [
                encode_line({"kind": "delta", "id": number, **delta_to_json(delta)})
                for number, delta in batch.step()
            ]
        except Exception as error:  # noqa: BLE001 - out of memory, most likely
            del self._batches[base]
            rows = [*batch.running, *batch.waiting, *([batch.reading] if batch.reading else [])]
            for number in {row.answers.id for row in rows}:
                self._fail(number, error)
        else:
            if lines:
                self._output.write(b"".join(lines))
                self._output.flush()

    def _fail(self, number: int, error: Exception) -> None:
        from .generation_errors import GenerationError  # noqa: PLC0415

        if not isinstance(error, GenerationError):
            logger.error("request %s failed", number, exc_info=error)
            error = GenerationError(
                f"The generator failed ({type(error).__name__}); its log says more.",
                status=500,
                code="generation_failed",
            )
        self._report(
            {
                "kind": "error",
                "id": number,
                "message": error.message,
                "status": error.status,
                "param": error.param,
                "code": error.code,
            }
        )

    def _report(self, message: dict[str, Any]) -> None:
        self._output.write(encode_line(message))
        self._output.flush()


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _read_commands(commands: Commands) -> None:
    for line in sys.stdin.buffer:
        commands.put(json.loads(line))
    # The server is gone: there is nobody left to answer, whatever the loop is busy with.
    os._exit(0)


def main() -> None:
    """Run the generating process; its one argument is a JSON object of `WorkerSettings`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    settings = WorkerSettings(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else WorkerSettings()
    # Only reports may reach the server's pipe, whatever a library prints.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    commands: Commands = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        _Worker(settings, commands, output).run()


if __name__ == "__main__":
    main()
