"""A process that has loaded the libraries and forks a worker for each job.

Loading PyTorch and its friends takes five to ten seconds of a core; a fork of a process
that has them takes none. The fork server only loads: it computes nothing, so it has a single
thread and a fork of it is sound. It reads one JSON object a line from its standard input and
writes one a line:

    → {"start": 1, "arguments": [...], "environment": {...}, "log": "..."}
    ← {"ready": true}, {"started": 1, "pid": 4711}, {"ended": 1, "status": 0}

It ends with its standard input; the workers go on without it.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import sys
from typing import Any, NoReturn

from .launcher import lower_priority

__all__ = ["is_possible", "main"]

_PRELOADED = (
    "tunesmith.engine.jobs.job_worker",
    "tunesmith.engine.jobs.finishing",
    "tunesmith.engine.training.run",
    "torch._dynamo",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "safetensors.torch",
)
_CHUNK = 1 << 16


def is_possible() -> bool:
    """Return whether a forked process can compute here.

    Not beside a GPU, whose driver does not survive a fork, and only where forks are sound at all.
    """
    return sys.platform == "linux" and not os.path.exists("/dev/nvidiactl")  # noqa: PTH110


def main() -> int:
    """Load, then fork on demand until the standard input ends."""
    lower_priority()
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:  # the worker will say what is missing
            continue
    _say({"ready": True})
    waker, wakee = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wakee, False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wakee, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(waker, selectors.EVENT_READ)
    numbers: dict[int, int] = {}
    pending = b""
    while True:
        for key, _ in selector.select():
            if key.fd == waker:
                os.read(waker, _CHUNK)
                _report_ended(numbers)
                continue
            received = os.read(0, _CHUNK)
            if not received:
                return 0
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _become_worker(order)
                numbers[pid] = order["start"]
                _say({"started": order["start"], "pid": pid})


def _ignore(_number: int, _frame: object) -> None:
    """Be a handler, which makes the signal write to the wakeup pipe."""


def _report_ended(numbers: dict[int, int]) -> None:
    while numbers:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in numbers:
            _say({"ended": numbers.pop(pid), "status": os.waitstatus_to_exitcode(status)})


def _become_worker(order: dict[str, Any]) -> NoReturn:
    """Be what a new process with this command line would be, and end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _redirect(order["log"])
        os.environ.update(order["environment"])
        from .job_worker import main as work  # noqa: PLC0415 - loaded already

        status = work(order["arguments"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - nothing may reach the fork server's loop
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    words = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(nothing, 0)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.closerange(3, 256)


def _say(words: dict[str, Any]) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
