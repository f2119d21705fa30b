"""A program on a pseudo-terminal: typed at, read, and ended; as a person sees it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][A-Za-z0-9]?|\r")
# A session's first process gets the terminal that it opens; whose foreground it is gets its Ctrl-C.
_IN_FOREGROUND = (
    "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A running program whose three streams are a terminal.

    Args:
        command: The program and its arguments.
        environment: Variables besides those of this process.
        folder: Where it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _IN_FOREGROUND, *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"} | dict(environment or {}),
            start_new_session=True,
        )
        os.close(terminal)
        self.raw = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """What has been read so far, without control codes."""
        return _CODES.sub("", self.raw.decode(errors="replace"))

    def press(self, keys: str) -> None:
        """Type; "\\x03" is Ctrl-C, which the terminal turns into a signal."""
        os.write(self._controller, keys.encode())

    def pause(self, seconds: float = 0.05) -> None:
        """Let the program run; it must not end meanwhile."""
        time.sleep(seconds)
        if self.process.poll() is not None:
            raise AssertionError(f"it has ended; it has printed:\n{self.text}")

    def wait_for(self, *texts: str, seconds: float = 60.0, after: int = 0) -> str:
        """Wait until one of some texts has been printed; return which.

        Args:
            texts: The texts, as they are with single blanks.
            seconds: How long to wait.
            after: How many characters of what has been printed do not count.
        """
        deadline = time.monotonic() + seconds
        while True:
            printed = " ".join(self.text[after:].split())
            if found := next((text for text in texts if text in printed), None):
                return found
            if time.monotonic() > deadline or not self._reader.is_alive():
                raise AssertionError(f"{texts} was not printed, but:\n{self.text[after:]}")
            time.sleep(0.02)

    def end(self, seconds: float = 60.0) -> int:
        """Wait until it ends; return the exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end; it has printed:\n{self.text}") from None
        self._reader.join(5)
        return status

    def _read(self) -> None:
        """Read all the time, as a terminal does: a program that prints would wait otherwise."""
        with contextlib.suppress(OSError):  # all who had the terminal are gone
            while read := os.read(self._controller, 1 << 16):
                self.raw += read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        os.close(self._controller)
