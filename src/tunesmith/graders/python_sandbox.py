"""Runs the source code of python graders: each in a process that can compute and do nothing else.

The process is a fresh interpreter without environment variables. Before it sees the source code it
limits its memory and time and gives up, for good, every system call but those that computing needs
(a seccomp filter, `sandbox_child`): it can open no file, no socket and no process, and can write
into one pipe only. No privileges are needed, and no user namespaces. Where the kernel does not
offer this, nothing is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .definitions import GraderError
from .grading import Failure, PythonRun, PythonValue

__all__ = ["PythonSandbox", "SandboxUnavailableError"]

_CHILD = Path(__file__).with_name("sandbox_child.py")
_MOST_OUTPUT = 64 * 1024
_START_SECONDS = 5.0  # for the interpreter and its modules, on a busy machine


class SandboxUnavailableError(GraderError):
    """This machine cannot keep source code apart, so none is run."""


@dataclass(frozen=True, slots=True)
class PythonSandbox:
    """Runs python graders.

    Args:
        seconds: The processor time that one call may take; by the clock twice that.
        memory_bytes: The address space of the process, interpreter included.
    """

    seconds: float = 10.0
    memory_bytes: int = 1 << 30

    def run(self, task: PythonRun) -> PythonValue | Failure:
        """Call `grade(sample, item)` of the source code. Blocks.

        Raises:
            SandboxUnavailableError: This machine has no seccomp filter.
        """
        return self._outcome("run", task)

    def check(self, source: str) -> None:
        """Compile source code and find its function, without running it. Blocks.

        Raises:
            GraderError: It does not compile, or has no function `grade(sample, item)`.
            SandboxUnavailableError: This machine has no seccomp filter.
        """
        found = self._outcome("check", PythonRun(source, {}, None))
        if isinstance(found, Failure):
            raise GraderError(f"source: {found.message}", "grader.source")

    def _outcome(self, action: str, task: PythonRun) -> PythonValue | Failure:
        if not sys.platform.startswith("linux"):
            raise SandboxUnavailableError(
                "Python graders run on Linux only: they need its seccomp filter to be kept apart."
            )
        order = {
            "action": action,
            "source": task.source,
            "sample": task.sample,
            "item": task.item,
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
        }
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(order).encode())
            given.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(_CHILD)],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        try:
            answer = _read(process, time.monotonic() + 2 * self.seconds + _START_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()  # it can have no children
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if answer is None:
            return Failure(f"The source code took longer than {self.seconds:g} s.", "runtime")
        if len(answer) > _MOST_OUTPUT:
            return Failure("The source code wrote into the pipe for its result.", "runtime")
        return _understood(answer, process.returncode, self.seconds)


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """Return what a process wrote until it closed its output; None if that takes too long."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    source = process.stdout.fileno()
    poll = select.poll()
    poll.register(source, select.POLLIN | select.POLLHUP)
    data = b""
    while len(data) <= _MOST_OUTPUT:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        piece = os.read(source, _MOST_OUTPUT)
        if not piece:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)  # it is ending: its exit status says how
            return data
        data += piece
    return data


def _understood(answer: bytes, status: int, seconds: float) -> PythonValue | Failure:
    try:
        found: Any = json.loads(answer)
        kind = found["kind"]
    except (ValueError, TypeError, KeyError):
        found, kind = {}, ""
    if kind == "unavailable":
        raise SandboxUnavailableError(
            "Python graders cannot be kept apart on this machine, so none is run: "
            f"{found['message']}."
        )
    if kind == "value" and isinstance(found["value"], int | float):
        return PythonValue(float(found["value"]))
    if kind == "error":
        return Failure(str(found["message"])[:2000], "runtime")
    if status in {-signal.SIGXCPU, -signal.SIGKILL}:
        return Failure(f"The source code took longer than {seconds:g} s.", "runtime")
    if status < 0:
        return Failure(f"The source code was ended by signal {-status}.", "runtime")
    return Failure("The source code ended without a result.", "runtime")
