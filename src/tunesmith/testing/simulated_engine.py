"""An engine inside this process that computes nothing; jobs succeed at once.

API, store and job states are the engine's own code, on a database in a temporary folder;
only training and generation are simulated. Every base model counts as installed.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tunesmith.engine.config import EngineConfig
from tunesmith.engine.domain.errors import EngineError, LostLeaseError
from tunesmith.engine.home import Home
from tunesmith.engine.jobs.job_worker import Worker
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.errors import MissingExtraError, TunesmithError

from .simulated_backend import SimulatedBackend
from .simulated_training import simulate_training

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tunesmith.client import AsyncClient, Client
    from tunesmith.engine.jobs.leases import Stage
    from tunesmith.engine.models.gpus import GpuLease
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

    from .simulated_backend import Answer

__all__ = ["SimulatedEngine", "simulate"]

_START_SECONDS = 60.0
_log = logging.getLogger("tunesmith.testing")


class SimulatedEngine:
    """A running simulated engine, started by `simulate`. A context manager that stops it.

    Attributes:
        base_url: Base URL of its API, `http://127.0.0.1:PORT/v1`.
        home: Its state folder; temporary unless you passed one.
    """

    def __init__(self, answer: Answer | None, step_seconds: float, home: Path | None) -> None:
        from tunesmith.engine.app import create_app
        from tunesmith.engine.server import Server
        from tunesmith.engine.store.database import Database

        self._is_temporary: bool = home is None
        self.home: Home = Home(home or Path(tempfile.mkdtemp(prefix="tunesmith-")))
        _write_base_models(self.home)
        config = EngineConfig(self.home, port=0, lease_seconds=float("inf"), shutdown_seconds=5.0)
        database = Database(config.database, durable=False)
        database.migrate()
        self._backend = SimulatedBackend(answer)
        self._launcher = _Launcher(self.home, database, step_seconds)
        app = create_app(config, database, launcher=self._launcher, backend=self._backend, gpus=())
        ready = threading.Event()
        self._server = Server(app, config, ready.set)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url: str = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="simulated engine", daemon=True
        )
        self._thread.start()
        if not ready.wait(_START_SECONDS):
            self.stop()
            raise EngineError("The simulated engine did not start; its log says why.")

    @property
    def answer(self) -> Answer | None:
        """The function that is asked before the training data; it can be replaced at any time."""
        return self._backend.answer

    @answer.setter
    def answer(self, answer: Answer | None) -> None:
        self._backend.answer = answer

    def client(self, **options: Any) -> Client:
        """Return a client for this engine; `options` are those of `tunesmith.Client`."""
        from tunesmith.client import Client

        defaults: dict[str, Any] = {"base_url": self.base_url, "api_key": "local"}
        return Client(**defaults | options)

    def async_client(self, **options: Any) -> AsyncClient:
        """Return an asynchronous client for this engine; see `client`."""
        from tunesmith.client import AsyncClient

        defaults: dict[str, Any] = {"base_url": self.base_url, "api_key": "local"}
        return AsyncClient(**defaults | options)

    def stop(self) -> None:
        """Stop. Unfinished jobs keep their state; a temporary state folder is removed."""
        self._launcher.stopping.set()
        self._server.stop()
        self._thread.join()
        self._listener.close()
        if self._is_temporary:
            shutil.rmtree(self.home.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<SimulatedEngine at {self.base_url}>"


def simulate(
    answer: Answer | None = None, *, step_seconds: float = 0.0, home: Path | None = None
) -> SimulatedEngine:
    """Start a simulated engine on a free port of 127.0.0.1, in threads of this process.

    A fine-tuned model answers each prompt of its training data with that prompt's
    completion; any other prompt is echoed.

    Args:
        answer: Called first, with a `Prompt` (a `str` with `model` and `messages`); returns
            the answer, or None to answer as above. An exception that it raises becomes a
            500, unless it is a `tunesmith.engine.serving.GenerationError` with another status.
        step_seconds: Duration of a training step, for tests that cancel or pause.
        home: State folder; default: a temporary one, removed at the end.

    Raises:
        MissingExtraError: The extra `testing` is not installed.
    """
    try:
        return SimulatedEngine(answer, step_seconds, home)
    except ModuleNotFoundError as error:
        raise MissingExtraError("The simulated engine", "testing") from error


class _ExitedWorker(NamedTuple):
    """A worker process that has already exited."""

    pid: int | None = None

    def poll(self) -> int:
        return 0

    def terminate(self) -> None:
        pass

    def kill(self) -> None:
        pass


class _Launcher:
    """Runs each job immediately, in the thread that asks for a worker process."""

    def __init__(self, home: Home, database: Database, step_seconds: float) -> None:
        self._home = home
        self._database = database
        self._step_seconds = step_seconds
        self.stopping = threading.Event()

    def launch(
        self,
        job: JobRow,
        stage: Stage,
        lease: GpuLease | None = None,  # noqa: ARG002
    ) -> _ExitedWorker:
        """Validate or train."""
        worker = Worker(self._database, self._home, job.id, str(job.worker_id))
        worker.shutdown = self.stopping
        try:
            if stage == "validation":
                worker.validate(with_model=False)
            else:
                worker.train(
                    lambda spec, observer: simulate_training(
                        spec, observer, lambda: self.stopping.wait(self._step_seconds)
                    )
                )
            worker.clean_up()
        except LostLeaseError as error:
            _log.warning("%s", error)
        except TunesmithError as error:
            worker.fail(getattr(error, "code", None) or "training_failed", str(error))
        return _ExitedWorker()

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _write_base_models(home: Home) -> None:
    """Point every base model of the built-in table at a folder that looks like a model."""
    folder = home.root / "simulated-base-model"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}", encoding="ascii")
    names = ["simulated", *(base.id for base in load_catalog(home).bases())]
    entries = [f"[base.{name!r}]\npath = {folder.as_posix()!r}\n" for name in dict.fromkeys(names)]
    home.base_model_table.write_text(
        "\n".join(['default = "simulated"\n', *entries]), encoding="utf-8"
    )
