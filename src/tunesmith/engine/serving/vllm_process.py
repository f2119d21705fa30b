"""One `vllm serve` process of the engine: started, watched, started again, stopped.

The process runs behind `vllm_guard`, on a port of the loopback interface that was free, with a key
that nobody else knows. Where it ends unasked it is started again, each time after a longer pause;
where that happens time and again, requests say so with the last lines of its log. Which model
it serves to whom is `managed_vllm`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.core.redact import Secret
from tunesmith.engine.domain.errors import ErrorKind

from . import vllm_guard
from .generation_errors import GenerationError
from .vllm_backend import VllmBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.models.gpus import GpuLease

__all__ = ["LORA_RANKS", "VllmCommand", "VllmProcess", "lora_rank_limit"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""

DEFAULT_LORA_RANK = 32
ADAPTERS_IN_A_BATCH = 8
ADAPTERS_IN_MEMORY = 64

POLL_SECONDS = 0.25
PROGRESS_SECONDS = 10.0
WATCH_SECONDS = 5.0
SETTLE_SECONDS = 10.0
SILENT_SECONDS = 180.0
START_SECONDS = 1800.0  # 70 billion parameters from a slow disk, and their first compilation
STABLE_SECONDS = 120.0  # after which an end is no part of a series any more
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
MAX_CRASHES = 4
MAX_PORT_CONFLICTS = 5
COOL_DOWN_SECONDS = 30.0  # after a series, before a request starts the process again
STOP_SECONDS = vllm_guard.GRACE_SECONDS + 10.0
LAST_LINES, LAST_BYTES = 8, 1500
LOG_BYTES = 16 << 20

# Variables of the engine alone, and of its Python.
_DROPPED = ("TUNESMITH_", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class VllmCommand:
    """How to start vLLM with a model.

    Attributes:
        program: What runs vLLM: a path, and arguments before its own.
        model: Folder of the weights.
        name: The name that it serves them under.
        tokenizer: Folder of the tokenizer, where `model` has none.
        lora_rank: Highest rank of an adapter.
        gpus: Number of GPUs.
        arguments: Further arguments.
        state: Folder for its log and its caches.
    """

    program: tuple[str, ...]
    model: Path
    name: str
    tokenizer: Path | None
    lora_rank: int
    gpus: int
    arguments: tuple[str, ...]
    state: Path

    def line(self, port: int) -> list[str]:
        """Return the command line, without the key: other users of the machine can see it."""
        return [
            *self.program,
            *("serve", str(self.model)),
            *("--served-model-name", self.name),
            *("--host", "127.0.0.1", "--port", str(port)),
            *(("--tokenizer", str(self.tokenizer)) if self.tokenizer else ()),
            *("--load-format", "safetensors"),
            *("--generation-config", "vllm"),
            "--enable-lora",
            *("--max-lora-rank", str(self.lora_rank)),
            *("--max-loras", str(ADAPTERS_IN_A_BATCH)),
            *("--max-cpu-loras", str(ADAPTERS_IN_MEMORY)),
            *(("--tensor-parallel-size", str(self.gpus)) if self.gpus > 1 else ()),
            *self.arguments,
        ]

    def environment(self, key: Secret, lease: GpuLease | None) -> dict[str, str]:
        """Return its environment: this process's own, without what concerns the engine alone."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)
        }
        return inherited | {
            "VLLM_API_KEY": key.reveal(),
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_DO_NOT_TRACK": "1",
            "VLLM_CACHE_ROOT": str(self.state / "cache"),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            **(lease.variables if lease else {}),
        }


def lora_rank_limit(rank: int) -> int | None:
    """Return the limit of ranks that vLLM needs for an adapter; None if it cannot serve it."""
    return next((limit for limit in LORA_RANKS if limit >= max(rank, DEFAULT_LORA_RANK)), None)


class VllmProcess:
    """A vLLM server with one base model. Belongs to one event loop, in which it is created.

    Args:
        command: How to start it.
        lease: The GPUs that it may use; None on a machine where none are leased.

    Attributes:
        command: How it is started.
        starts: How often it has been started.
    """

    def __init__(self, command: VllmCommand, lease: GpuLease | None) -> None:
        self.command: VllmCommand = command
        self.starts: int = 0
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._lease = lease
        self._log = _Log(command.state / "vllm.log")
        self._backend: VllmBackend | None = None
        self._failure: GenerationError | None = None
        self._failed_at = 0.0
        self._changed = asyncio.Condition()
        self._guard: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] = asyncio.create_task(self._supervise())

    @property
    def gave_up(self) -> bool:
        """True once it has ended too often, and a new attempt may be made."""
        failed = self._failure is not None
        return failed and time.monotonic() - self._failed_at > COOL_DOWN_SECONDS

    @property
    def answers(self) -> bool:
        """True while it takes requests."""
        return self._backend is not None

    async def backend(self) -> VllmBackend:
        """Return what sends it requests, once it takes them.

        Raises:
            GenerationError: It has ended too often.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._backend or self._failure)
            if self._backend is not None:
                return self._backend
        raise self._failure or _failure("vLLM does not run.", "")

    async def wait_until_known(self, backend: VllmBackend) -> None:
        """Wait until it is known, after a connection broke, whether the process still runs."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._backend is backend and time.monotonic() < deadline:
            if await backend.is_healthy():
                return
            await asyncio.sleep(POLL_SECONDS)

    async def unused(self) -> None:
        """Wait until it has no requests."""
        await self._unused.wait()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Note that a request waits for it or is answered by it."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def stop(self) -> None:
        """Stop it, with all that it has started; give its GPUs back."""
        self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervisor
        await self._end()
        if self._lease is not None:
            self._lease.close()
        await self._set(None, _failure("vLLM has been stopped.", ""))

    async def _supervise(self) -> None:
        """Start the process, and again after each end, until it ends too often."""
        crashes = conflicts = 0
        while True:
            started = time.monotonic()
            try:
                reason = await self._run_once()
            except OSError as error:
                reason = f"cannot be started: {error}"
            finally:
                await self._end()
            if _is_port_conflict(self._log.last_lines()) and conflicts < MAX_PORT_CONFLICTS:
                conflicts += 1
                logger.warning("the port that was free for vLLM is taken; it gets another one")
                continue
            crashes = 1 if time.monotonic() - started > STABLE_SECONDS else crashes + 1
            logger.error("vLLM %s. Its last lines:\n%s", reason, self._log.last_lines())
            if crashes >= MAX_CRASHES:
                message = f"vLLM {reason}, {crashes} times in a row."
                self._failed_at = time.monotonic()
                await self._set(None, _failure(message, self._shown_lines()))
                return
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (crashes - 1), LONGEST_PAUSE_SECONDS)
            logger.info("vLLM is started again in %.0f s", pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """Start the process and watch it; return how it ended."""
        key = Secret(secrets.token_urlsafe(32))
        port = _free_port()
        self._log.begin()
        self.starts += 1
        descriptors = self._lease.descriptors if self._lease else ()
        self.command.state.mkdir(parents=True, exist_ok=True)
        self._guard = guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(Path(vllm_guard.__file__)), str(self._log.path)),
            ",".join(map(str, descriptors)) or "-",
            *self.command.line(port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self.command.environment(key, self._lease),
            pass_fds=descriptors,
            start_new_session=True,
        )
        backend = VllmBackend(f"http://127.0.0.1:{port}", key)
        try:
            if not await self._wait_until_ready(backend, guard):
                return await _ending(guard, "while it started")
            await self._set(backend, None)
            return await self._watch(backend, guard)
        finally:
            await self._set(None, None)
            await backend.stop()

    async def _wait_until_ready(
        self, backend: VllmBackend, guard: asyncio.subprocess.Process
    ) -> bool:
        """Wait until it answers, telling how far it is; return whether it does."""
        name = self.command.name
        started = reported_at = time.monotonic()
        logger.info("vLLM is starting with %s; its log is %s", name, self._log.path)
        while guard.returncode is None:
            if await backend.is_ready():
                seconds = time.monotonic() - started
                logger.info("vLLM serves %s after %.0f s", name, seconds)
                return True
            await asyncio.sleep(POLL_SECONDS)
            now = time.monotonic()
            if now - started > START_SECONDS:
                logger.error("vLLM has not started within %.0f s and is stopped", START_SECONDS)
                await self._end()
            elif now - reported_at > PROGRESS_SECONDS:
                reported_at = now
                line = self._log.last_lines().rpartition("\n")[2]
                logger.info("vLLM is starting with %s (%.0f s): %s", name, now - started, line)
        return False

    async def _watch(self, backend: VllmBackend, guard: asyncio.subprocess.Process) -> str:
        """Watch it while it serves; return how it ended."""
        answered = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(guard.wait(), WATCH_SECONDS)
                return await _ending(guard, "while it served")
            healthy = await backend.is_healthy()
            if healthy is False:
                return "reports that its engine has died"
            if healthy:
                answered = time.monotonic()
            elif time.monotonic() - answered > SILENT_SECONDS:
                return f"did not respond for {SILENT_SECONDS:.0f} s"

    async def _end(self) -> None:
        """Have the guard stop what it has started, and wait for it."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin is not None:
            guard.stdin.close()
        try:
            await asyncio.wait_for(guard.wait(), STOP_SECONDS)
        except TimeoutError:
            logger.warning("vLLM does not end; its guard is killed")
            guard.kill()
            await guard.wait()

    async def _set(self, backend: VllmBackend | None, failure: GenerationError | None) -> None:
        async with self._changed:
            self._backend, self._failure = backend, failure
            self._changed.notify_all()

    def _shown_lines(self) -> str:
        """Return the last lines of the log, without the folders of this machine."""
        lines = self._log.last_lines()
        for folder in (self.command.model.parent, self.command.state.parent, Path.home()):
            lines = lines.replace(f"{folder}/", "")
        return lines


class _Log:
    """The log of the process, which each start continues."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = 0

    def begin(self) -> None:
        """Note where the next start's lines begin; put a log that is too large aside."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._begin = self.path.stat().st_size if self.path.exists() else 0
        if self._begin > LOG_BYTES:
            self.path.replace(self.path.with_name("vllm.log.1"))
            self._begin = 0

    def last_lines(self) -> str:
        """Return the last lines since the last start."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._begin, size - 8 * LAST_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-LAST_LINES:])[-LAST_BYTES:]


async def _ending(guard: asyncio.subprocess.Process, when: str) -> str:
    status = await guard.wait()
    if status > vllm_guard.SIGNALLED:
        return f"was ended by signal {status - vllm_guard.SIGNALLED} {when}"
    return f"ended with status {status} {when}"


def _failure(message: str, lines: str) -> GenerationError:
    rest = f" The last lines of its log:\n{lines}" if lines else ""
    return GenerationError(message + rest, kind=ErrorKind.UNAVAILABLE, code="vllm_failed")


def _is_port_conflict(lines: str) -> bool:
    return "address already in use" in lines.lower()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
