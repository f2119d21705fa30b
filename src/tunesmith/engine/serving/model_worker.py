"""The model worker: a process that reads commands on standard input and generates.

Started by `worker_client`, as a fork of a process that has loaded the libraries or, with the
environment set before torch loads, as `python -m tunesmith.engine.serving.model_worker SETTINGS`.
A thread reads commands and others prepare requests; everything else happens in one loop that steps
the schedulers of all base models in turn. The process ends when its input does, so it never
outlives the server. Reports go to standard output; anything else that is printed goes to standard
error. It knows nothing of HTTP, of keys or of the database.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from tunesmith.engine.domain.errors import ErrorKind

from .generation import GenerationRequest
from .generation_errors import GenerationError
from .preparation_queue import PreparationQueue
from .worker_protocol import (
    WorkerSettings,
    delta_to_json,
    encode_line,
    error_to_json,
    model_from_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tunesmith.engine.models.model_info import ServableModel

    from .generation import GenerationDelta
    from .loaded_base import LoadedBase
    from .scheduler import Scheduler
    from .sequence import SequenceGroup

__all__ = ["main"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

CPU_PREFILL_TOKENS, GPU_PREFILL_TOKENS = 512, 8192

Commands: TypeAlias = "queue.SimpleQueue[dict[str, Any]]"


class _ModelWorker:
    """The loop: handle commands, step each busy scheduler, report."""

    def __init__(self, settings: WorkerSettings, commands: Commands, output: BinaryIO) -> None:
        import torch  # noqa: PLC0415 - slow to import, and only here

        from tunesmith.engine.models.devices import best_dtype, pick_device  # noqa: PLC0415

        from .memory_budget import max_sequences, weights_budget  # noqa: PLC0415
        from .model_store import ModelStore  # noqa: PLC0415
        from .scheduler import SchedulerLimits  # noqa: PLC0415

        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = pick_device() if settings.device == "auto" else torch.device(settings.device)
        dtype = (
            best_dtype(device, gpu_fallback=torch.float16)
            if settings.dtype == "auto"
            else getattr(torch, settings.dtype)
        )
        self._commands = commands
        self._output = output
        prefill_tokens = CPU_PREFILL_TOKENS if device.type == "cpu" else GPU_PREFILL_TOKENS
        self._limits = SchedulerLimits(
            max_sequences=settings.max_sequences or max_sequences(device),
            max_prefill_tokens=settings.max_prefill_tokens or prefill_tokens,
        )
        self._cache_bytes = settings.cache_bytes
        self._schedulers: dict[LoadedBase, Scheduler] = {}
        self._preparing: dict[int, LoadedBase] = {}  # requests that are not in a scheduler yet
        self._preparations = PreparationQueue()
        self._models = ModelStore(
            budget=settings.memory_bytes or weights_budget(device),
            device=device,
            dtype=dtype,
            is_busy=self._is_busy,
            on_unload=lambda base: self._schedulers.pop(base, None),
            weights=settings.weights,
        )

    def _is_busy(self, base: LoadedBase) -> bool:
        scheduler = self._schedulers.get(base)
        return (scheduler is not None and scheduler.busy) or base in self._preparing.values()

    def run(self) -> None:
        """Run for as long as the process lives."""
        self._report({"kind": "ready"})
        while True:
            busy = any(scheduler.busy for scheduler in self._schedulers.values())
            for command in self._next_commands(block=not busy):
                self._handle(command)
            for base, scheduler in list(self._schedulers.items()):
                if scheduler.busy:
                    self._step(base, scheduler)

    def _next_commands(self, *, block: bool) -> Iterator[dict[str, Any]]:
        """Yield the commands that have come; with `block`, wait for the first one.

        Those that come meanwhile have to wait for a step: a flood of them must not prevent it.
        """
        if block:
            yield self._commands.get()
        with contextlib.suppress(queue.Empty):
            for _ in range(self._commands.qsize()):
                yield self._commands.get_nowait()

    def _handle(self, command: dict[str, Any]) -> None:
        kind = command["kind"]
        if kind == "unload":
            self._models.unload(Path(command["folder"]))
            return
        number = command["id"]
        if kind == "cancel":
            self._preparing.pop(number, None)
            self._preparations.remove(number)
            for scheduler in self._schedulers.values():
                scheduler.abort(number)
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
                self._prepare(number, command)
            elif kind == "prepared" and number in self._preparing:
                self._start(self._preparing.pop(number), command["group"])
        except Exception as error:  # noqa: BLE001 - one request must not stop the others
            self._fail(number, error)

    def _load(self, model: ServableModel) -> None:
        """Load a model and generate one token with it, which initialises its libraries."""
        from .scheduler import create_sequence_group  # noqa: PLC0415

        base, adapter = self._models.get(model)
        request = GenerationRequest(prompts=[[base.start_token_id]], max_tokens=1)
        scheduler = self._new_scheduler(base)
        list(scheduler.add(create_sequence_group(0, request, base, adapter)))
        while scheduler.busy:
            scheduler.step()

    def _prepare(self, number: int, command: dict[str, Any]) -> None:
        """Tokenise a request's prompts and compile its grammar beside the loop."""
        from .scheduler import create_sequence_group  # noqa: PLC0415

        base, adapter = self._models.get(model_from_json(command["model"]))
        request = GenerationRequest.model_validate(command["request"])
        self._preparing[number] = base

        def prepare() -> None:
            try:
                group: SequenceGroup | Exception = create_sequence_group(
                    number, request, base, adapter
                )
            except Exception as error:  # noqa: BLE001 - the loop reports it
                group = error
            self._commands.put({"kind": "prepared", "id": number, "group": group})

        self._preparations.put(number, request.organization, prepare)

    def _start(self, base: LoadedBase, group: SequenceGroup | Exception) -> None:
        """Give a prepared request to the scheduler of its model."""
        if isinstance(group, Exception):
            raise group
        if base not in self._schedulers:
            self._schedulers[base] = self._new_scheduler(base)
        for output in self._schedulers[base].add(group):
            self._output.write(self._line(*output))
        self._output.flush()

    def _new_scheduler(self, base: LoadedBase) -> Scheduler:
        """Return a scheduler whose cache takes its share of the memory that is free now."""
        from .memory_budget import cache_budget  # noqa: PLC0415
        from .scheduler import Scheduler  # noqa: PLC0415

        cache_bytes = self._cache_bytes or cache_budget(base.device)
        return Scheduler(base, replace(self._limits, cache_bytes=cache_bytes))

    def _step(self, base: LoadedBase, scheduler: Scheduler) -> None:
        try:
            lines = [self._line(number, output) for number, output in scheduler.step()]
        except Exception as error:  # noqa: BLE001 - nobody may be left waiting
            del self._schedulers[base]
            for number in scheduler.request_ids:
                self._fail(number, error)
        else:
            if lines:
                self._output.write(b"".join(lines))
                self._output.flush()

    def _line(self, number: int, output: GenerationDelta | Exception) -> bytes:
        if isinstance(output, Exception):
            return encode_line(_error_report(number, output))
        return encode_line({"kind": "delta", "id": number, **delta_to_json(output)})

    def _fail(self, number: int, error: Exception) -> None:
        self._report(_error_report(number, error))

    def _report(self, message: dict[str, Any]) -> None:
        self._output.write(encode_line(message))
        self._output.flush()


def _error_report(number: int, error: Exception) -> dict[str, Any]:
    if not isinstance(error, GenerationError):
        logger.error("request %s failed", number, exc_info=error)
        error = GenerationError(
            f"Generating the answer failed ({type(error).__name__}); see the engine's log.",
            kind=ErrorKind.INTERNAL,
            code="generation_failed",
        )
    return {"kind": "error", "id": number, **error_to_json(error)}


def _read_commands(commands: Commands) -> None:
    for line in sys.stdin.buffer:
        commands.put(json.loads(line))
    # The server has gone, so nobody reads the reports, whatever the loop is busy with.
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the model worker; its one argument is a JSON object of `WorkerSettings`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    arguments = sys.argv[1:] if arguments is None else arguments
    settings = WorkerSettings(**json.loads(arguments[0])) if arguments else WorkerSettings()
    # Only reports may reach the server's pipe, whatever a library prints.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    commands: Commands = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        _ModelWorker(settings, commands, output).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
