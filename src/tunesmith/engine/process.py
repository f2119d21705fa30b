"""The engine in a process of its own, started from Python.

The child reports its port through a file, so any free port will do, and stops when this
process closes the pipe to it or dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import (
    EngineConfig,
    Limits,
    MigrateConfig,
    PythonGraders,
    RayConfig,
    ServingConfig,
)
from .domain.errors import EngineError
from .home import Home

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tunesmith.client import Client

__all__ = ["Engine", "main", "start"]

_START_SECONDS = 60.0
_CONFIG_VARIABLE = "TUNESMITH_ENGINE_CONFIG"


class Engine:
    """A running engine, created by `start`. As a context manager it stops at the end of the block.

    Attributes:
        home: The state folder.
        base_url: The address of its API, `http://127.0.0.1:PORT/v1`.
        log_path: The log file of the server.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.home: Home = config.home
        self.base_url: str = ""
        self.log_path: Path = config.home.root / "server.log"
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Id of the server's process.

        Raises:
            EngineError: It has not been started.
        """
        if self._process is None:
            raise EngineError("The engine has not been started.")
        return self._process.pid

    def client(self, **options: Any) -> Client:
        """Return a client for this engine; `options` are those of `tunesmith.Client`."""
        from tunesmith.client import Client  # noqa: PLC0415 - the server does without it

        defaults: dict[str, Any] = {"base_url": self.base_url, "api_key": "local"}
        return Client(**defaults | options)

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            EngineError: It exited or did not answer in time; the message is the end of its log.
        """
        if self._process is not None:
            return
        try:
            self.home.make_private()
            log = self.log_path.open("ab")
        except OSError as error:
            raise EngineError(
                f"The state folder {self.home.root} cannot be written: {error.strerror}."
            ) from error
        with log, tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
            ready = Path(folder) / "ready.json"
            began = log.tell()
            environment = dict(os.environ) | {_CONFIG_VARIABLE: _to_json(self._config)}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunesmith.engine.process", str(ready)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                port = self._wait(ready, began)
            except BaseException:
                self.stop()
                raise
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        self.base_url = f"http://{host}:{port}/v1"

    def stop(self) -> None:
        """Stop the engine, after its trainings have written a checkpoint."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"at {self.base_url}" if self._process is not None else "stopped"
        return f"<Engine {state}, home {str(self.home.root)!r}>"

    def _wait(self, ready: Path, began: int) -> int:
        process = self._process
        deadline = time.monotonic() + _START_SECONDS
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            if ready.exists():
                return int(json.loads(ready.read_text(encoding="ascii"))["port"])
            time.sleep(0.02)
        with self.log_path.open("rb") as log:
            log.seek(began)
            output = log.read().decode(errors="replace").strip()
        raise EngineError(
            output or f"The engine did not start within {_START_SECONDS:.0f} seconds."
        )


def start(home: str | os.PathLike[str] | None = None, *, port: int = 0, **settings: Any) -> Engine:
    """Start the engine in a process of its own and wait until it answers.

    Use the result in a `with` block, or call its `stop()`.

    Args:
        home: State folder; default `TUNESMITH_HOME`, else the platform's user data folder.
        port: Port on 127.0.0.1; 0 takes a free one.
        settings: Further fields of `EngineConfig`.

    Raises:
        EngineError: It cannot start.
    """
    state_folder = (
        Home.from_environment() if home is None else Home(Path(home).expanduser().absolute())
    )
    engine = Engine(EngineConfig(home=state_folder, port=port, **settings))
    engine.start()
    return engine


def main() -> int:
    """Serve as the child of an `Engine`."""
    config = _from_json(os.environ.pop(_CONFIG_VARIABLE))
    from tunesmith.errors import MissingExtraError, TunesmithError  # noqa: PLC0415 - in the child

    try:
        from .server import serve  # noqa: PLC0415
    except ModuleNotFoundError:
        sys.stderr.write(f"{MissingExtraError('The embedded engine', 'engine')}\n")
        return 1
    try:
        serve(config, ready_file=Path(sys.argv[1]))
    except TunesmithError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _to_json(config: EngineConfig) -> str:
    values = dataclasses.asdict(config) | {"home": str(config.home.root)}
    return json.dumps(values)


def _from_json(text: str) -> EngineConfig:
    values = json.loads(text)
    home, limits = Home(Path(values.pop("home"))), Limits(**values.pop("limits"))
    serving, ray = ServingConfig(**values.pop("serving")), RayConfig(**values.pop("ray"))
    graders = PythonGraders(**values.pop("python_graders"))
    migrate = MigrateConfig(**values.pop("migrate"))
    proxies = tuple(values.pop("trusted_proxies"))
    return EngineConfig(
        home=home,
        limits=limits,
        serving=serving,
        ray=ray,
        python_graders=graders,
        migrate=migrate,
        trusted_proxies=proxies,
        **values,
    )


if __name__ == "__main__":
    sys.exit(main())
