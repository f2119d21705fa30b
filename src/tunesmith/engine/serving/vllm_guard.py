"""Stands between the engine and a vLLM server, so that the server never outlives the engine.

    python vllm_guard.py LOG DESCRIPTORS COMMAND…

Runs the command in a session of its own, with its output in the log, and prints its process id.
When its own input ends, because the engine closed it or was killed, or on SIGTERM, it stops
everything that the command has started: a vLLM server leaves processes behind that hold the GPU's
memory when it alone is killed. It exits with the command's status. DESCRIPTORS are open files, with
commas between them, that the command inherits as well; "-" for none.

Uses the standard library alone and is run as a script: it knows nothing of the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__ = ["GRACE_SECONDS", "SIGNALLED", "main"]

GRACE_SECONDS = 15.0  # for running requests, and for giving the GPU's memory back
_POLL_SECONDS = 0.1
SIGNALLED = 128  # as shells report the end by a signal
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl


def main() -> int:
    """Run the command until it ends, or until the engine does."""
    log, descriptors, *command = sys.argv[1:]
    keep = () if descriptors == "-" else tuple(map(int, descriptors.split(",")))
    _prctl(_SET_CHILD_SUBREAPER, 1)  # orphans among its descendants become children of this process
    with Path(log).open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there is one thread as yet
        )
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    threading.Thread(target=_wait_for_end_of_input, args=(stopping,), daemon=True).start()
    while child.poll() is None and not stopping.wait(_POLL_SECONDS):
        pass
    _stop(child)
    status = child.returncode
    return status if status >= 0 else SIGNALLED - status


def _wait_for_end_of_input(stopping: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    stopping.set()


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask the command to end, then end all that is left of it."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()
    while orphans := _children():
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _children() -> list[int]:
    """Return the processes that have been left to this one; none where the system does not say."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):
        return list(map(int, path.read_text(encoding="ascii").split()))
    return []


def _die_with_parent() -> None:
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
