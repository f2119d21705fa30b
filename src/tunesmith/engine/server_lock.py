"""One server per state folder, and where that server answers.

The server holds the lock on `server.lock` for as long as it runs; the system releases it if the
process dies. The file says which process it is and, once requests are answered, at which URL. It
knows nothing of what is served.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from tunesmith.file_lock import try_lock

from .domain.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Generator

    from .home import Home

__all__ = ["RunningServer", "ServerLock", "find_running_server", "hold_server_lock"]

_ATTEMPTS = 5
_ATTEMPT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The server of a state folder.

    Attributes:
        pid: Its process.
        url: Base URL of its API, with `/v1`; None while it starts.
    """

    pid: int | None
    url: str | None


class ServerLock:
    """The lock that this process holds.

    Args:
        file: The lock file, locked.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._write(None)

    def announce(self, url: str) -> None:
        """Say where requests are answered."""
        self._write(url)

    def _write(self, url: str | None) -> None:
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "url": url}))
        self._file.flush()


@contextlib.contextmanager
def hold_server_lock(home: Home) -> Generator[ServerLock]:
    """Lock the state folder against a second server, and check that it is writable.

    Raises:
        EngineError: Another server has it, or it cannot be written.
    """
    try:
        home.make_private()
        file = home.server_lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"The state folder {home.root} cannot be written: {error.strerror}. Name another one "
            "with TUNESMITH_HOME or --home."
        ) from error
    with file:
        if not _lock_within_moments(file):
            other = _read(file)
            raise EngineError(
                f"Another engine (process {other.pid or 'unknown'}) already serves the state "
                f"folder {home.root}. Stop it, or name another folder with TUNESMITH_HOME or "
                "--home."
            )
        yield ServerLock(file)


def find_running_server(home: Home) -> RunningServer | None:
    """Return the server that has the state folder now; None if there is none."""
    try:
        with home.server_lock.open("r+", encoding="utf-8") as file:
            return None if try_lock(file.fileno()) else _read(file)
    except OSError:
        return None


def _read(file: IO[str]) -> RunningServer:
    file.seek(0)
    try:
        values = json.loads(file.read())
        return RunningServer(int(values["pid"]), values["url"])
    except (ValueError, TypeError, KeyError):  # it writes this very moment
        return RunningServer(None, None)


def _lock_within_moments(file: IO[str]) -> bool:
    """Lock; who looks whether a server runs has the lock for a moment, too."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_ATTEMPT_SECONDS)
        if try_lock(file.fileno()):
            return True
    return False
