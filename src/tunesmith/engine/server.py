"""`serve`: runs the engine in this process until it is asked to stop.

Whatever prevents the start is detected here, before anything listens, and reported as one
paragraph. On SIGTERM or SIGINT open streams end, trainings write a checkpoint and return
to the queue, and the process exits with status 0; it says what it waits for. A second signal ends
requests and trainings at once, and trainings resume from an earlier checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.util
import json
import os
import shlex
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

import uvicorn

from tunesmith._install import install_extra

from .connections import ConnectionTable, keep_alive
from .domain.errors import EngineError
from .domain.job import public_id
from .file_limit import raise_file_limit
from .logs import configure as configure_logs
from .models.catalog import load_catalog
from .models.gpus import read_gpus
from .security.keys import KeyRing
from .server_lock import hold_server_lock
from .store.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path
    from types import FrameType

    from fastapi import FastAPI

    from .config import EngineConfig
    from .jobs.dispatcher import Dispatcher
    from .models.gpus import Gpu
    from .store.records import JobRow

__all__ = ["Server", "serve"]

_SHUTDOWN_STREAM_SECONDS = 10
_ENDING_STREAMS_SECONDS = 0.1
_BACKLOG = 2048
_ACCEPTED_AT_A_TIME = 100
_PRIVATE_UMASK = 0o077


def serve(config: EngineConfig, *, ready_file: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: The engine's settings.
        ready_file: Is written with `{"port": …}` once requests are answered; the server then also
            stops at the end of its standard input. For a parent process.

    Raises:
        EngineError: It cannot start; the message says why and what to do.
        CatalogError: The user's table of base models cannot be read.
    """
    os.umask(_PRIVATE_UMASK)
    raise_file_limit()
    with (
        hold_server_lock(config.home) as lock,
        contextlib.closing(Database(config.database)) as database,
    ):
        configure_logs(config.log_format, config.home.root / "audit.log")
        database.migrate()
        load_catalog(config.home)
        if config.launcher == "ray" and importlib.util.find_spec("ray") is None:
            raise EngineError(
                f"The launcher is 'ray', but Ray is not installed: {install_extra('ray')}"
            )
        if config.serving.backend == "vllm" and config.serving.url is None:
            _check_vllm(config)
        has_keys = KeyRing(database, config.organization).exist
        if not has_keys and not config.is_loopback:
            raise EngineError(
                f"Refused to listen on {config.host}: no API key has been created, so anyone who "
                f"reaches this port could use the engine. Run `{_create_key(config)} --role owner` "
                "first, or listen on 127.0.0.1."
            )
        with contextlib.closing(_bind(config)) as listener:
            port = listener.getsockname()[1]
            gpus = read_gpus()

            def on_ready() -> None:
                lock.announce(f"{_root_url(_reachable(config.host), port)}/v1")
                _say(_startup_message(config, port, gpus, has_keys=has_keys))
                if ready_file is not None:
                    _write_ready(ready_file, port)

            _run(config, database, gpus, listener, on_ready, parent=ready_file is not None)


def _run(
    config: EngineConfig,
    database: Database,
    gpus: Sequence[Gpu],
    listener: socket.socket,
    on_ready: Callable[[], None],
    *,
    parent: bool,
) -> None:
    from .app import create_app  # noqa: PLC0415 - not before the start is sure

    app = create_app(config, database, gpus=gpus)
    server = Server(app, config, on_ready)
    if parent:
        threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    asyncio.run(server.serve([listener]))
    if not server.was_ready:
        raise EngineError("The engine could not start; the lines above say why.")


class Server(uvicorn.Server):
    """A Uvicorn server that reports when it is ready, and ends open streams when it has to stop.

    Args:
        app: Made by `create_app`.
        config: The engine's settings.
        on_ready: Called once requests are answered.
    """

    def __init__(self, app: FastAPI, config: EngineConfig, on_ready: Callable[[], None]) -> None:
        from .app import with_context  # noqa: PLC0415 - not before the start is sure

        self._connections = ConnectionTable()
        super().__init__(
            uvicorn.Config(
                with_context(app, config),
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=_SHUTDOWN_STREAM_SECONDS,
                server_header=False,
                h11_max_incomplete_event_size=64 << 10,
                http=self._connections.protocol,  # type: ignore[arg-type] # called, no more
                backlog=_ACCEPTED_AT_A_TIME,
                proxy_headers=bool(config.trusted_proxies),
                forwarded_allow_ips=list(config.trusted_proxies),
            )
        )
        self.was_ready: bool = False
        self._is_asked = False  # by a person: who stops it from a program is told nothing
        self._is_hurried = False
        self._on_ready = on_ready
        self._close_streams: Callable[[], None] = app.state.services.watcher.close
        self._dispatcher: Dispatcher = app.state.services.dispatcher
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report that the server is ready."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._connections.handle)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)
        # What is loaded by now stays. A full collection that looks at it all takes 0.1 s, in which
        # no request is answered.
        gc.collect()
        gc.freeze()
        if self.started:
            self._on_ready()
            self.was_ready = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while serving; a requested stop is not a failure."""
        with contextlib.ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    stack.callback(signal.signal, number, signal.signal(number, self.handle_exit))
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown; once it has begun, hurry it."""
        del sig, frame
        self._is_asked = True
        if not self.should_exit:
            self.stop()
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._hurry)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say what the shutdown waits for, then wait for it."""
        if self._is_asked:
            await asyncio.sleep(_ENDING_STREAMS_SECONDS)
            trainings = await asyncio.to_thread(self._dispatcher.local_jobs)
            _say(_stopping_message(len(self.server_state.tasks), trainings))
        await super().shutdown(sockets)

    def _hurry(self) -> None:
        """Wait for nothing more."""
        if not self._is_hurried:
            self._is_hurried = True
            _say("Stopping at once: requests are cut off; a training repeats its last steps.")
        self._dispatcher.hurry()
        for connection in list(self.server_state.connections):
            if transport := getattr(connection, "transport", None):
                transport.abort()  # to the requests it is as if their clients had gone

    def stop(self) -> None:
        """Start the shutdown from another thread."""
        self.should_exit = True
        self.end_streams()

    def end_streams(self) -> None:
        """End the event streams, which would otherwise last as long as their jobs."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._close_streams)


def _stop_with_parent(server: Server) -> None:
    """Stop when the standard input ends: the parent has closed it, or has died."""
    while os.read(0, 1024):
        pass
    server.stop()


def _check_vllm(config: EngineConfig) -> None:
    from .serving import GenerationError, ManagedVllmSettings  # noqa: PLC0415 - seldom needed

    try:
        ManagedVllmSettings(config.home.vllm, config.serving.command).program()
    except GenerationError as error:
        raise EngineError(
            f"{error} For a vLLM server that runs already, set its `url` there."
        ) from None


def _bind(config: EngineConfig) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise EngineError(f"{config.host!r} is not an address of this machine: {error}.") from error
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keep_alive(listener)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise EngineError(_bind_failure(config, error)) from error
    return listener


def _bind_failure(config: EngineConfig, error: OSError) -> str:
    where = f"{config.host}:{config.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {config.port} on {config.host} is in use by another program, perhaps another "
            "engine. Stop that one, or choose another port with --port (0 takes a free one)."
        )
    if error.errno == errno.EACCES:
        return f"Not allowed to listen on {where}; ports below 1024 need privileges. Use --port."
    return f"Cannot listen on {where}: {error.strerror}."


def _root_url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _reachable(host: str) -> str:
    """Return an address at which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared


def _startup_message(
    config: EngineConfig, port: int, gpus: Sequence[Gpu], *, has_keys: bool
) -> str:
    root = _root_url(config.host, port)
    installed = ", ".join(base.id for base in load_catalog(config.home).bases() if base.installed)
    device = ", ".join(gpu.name for gpu in gpus) or "the processor"
    lines = [
        f"tunesmith serves {root}/v1, state in {config.home.root}",
        f"Dashboard: {root}/ - playground: {root}/playground",
        f"Base models: {installed or 'none yet; `tunesmith models list` shows them'} - on {device}",
    ]
    if not has_keys:
        lines.append(
            "No API key has been created: any key is accepted, from this machine only. "
            f"Create one with `{_create_key(config)}`."
        )
    return "\n".join(lines)


def _stopping_message(requests: int, jobs: Sequence[JobRow]) -> str:
    waits: list[str] = []
    if requests:
        some = "an open request" if requests == 1 else f"{requests} open requests"
        waits.append(f"{some}, for {_SHUTDOWN_STREAM_SECONDS} seconds at most")
    waits += [
        f"job {public_id(job.id, job.api)}, which writes a checkpoint and continues from it at the "
        "next start"
        if job.status == "running"
        else f"job {public_id(job.id, job.api)}, whose files the next start checks again"
        for job in jobs
    ]
    if not waits:
        return "Stopping."
    return f"Stopping; waiting for {'; '.join(waits)}. Ctrl-C again stops at once."


def _say(text: str) -> None:
    """Print on stderr; whoever read it may be gone."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _create_key(config: EngineConfig) -> str:
    """Return the command that makes a key of this engine, as it can be typed in any shell."""
    return f"tunesmith keys create --home {shlex.quote(str(config.home.root))}"


def _write_ready(path: Path, port: int) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps({"port": port, "pid": os.getpid()}), encoding="ascii")
    temporary.replace(path)
