"""The fork server: a process that has loaded the libraries and forks the workers of jobs.

Loading PyTorch and transformers takes five to ten seconds of a core; a fork of a process
that has loaded them takes none. The fork server only loads: it computes nothing, so it has
a single thread, and forking it is safe. `ForkServerLauncher` starts it and talks to it
through pipes. It reads one JSON object per line from standard input and writes one per
line:

    → {"start": 1, "arguments": [...], "environment": {...}, "log": "..."}
    ← {"ready": true}, {"started": 1, "pid": 4711}, {"ended": 1, "status": 0}

It exits when its standard input is closed; the workers continue.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import sys
from typing import Any, NoReturn

from .launcher import lower_priority

__all__ = ["is_supported", "main"]

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
_READ_SIZE = 1 << 16


def is_supported() -> bool:
    """Return whether a forked process can train here: on Linux without an NVIDIA GPU.

    A GPU's driver does not survive a fork, and forks are not safe on other systems.
    """
    return sys.platform == "linux" and not os.path.exists("/dev/nvidiactl")  # noqa: PTH110


def main() -> int:
    """Load the libraries, then fork on request until standard input is closed."""
    lower_priority()
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:  # the worker will report what is missing
            continue
    # Workers share this memory until they write to it, and a collection writes to each object.
    gc.collect()
    gc.freeze()
    _send({"ready": True})
    # A signal for each ended child is turned into bytes on a pipe that `select` can wait for.
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    os.set_blocking(wakeup_read, False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wakeup_read, selectors.EVENT_READ)
    requests: dict[int, int] = {}  # numbers of start requests by pid
    pending = b""
    while True:
        for key, _ in selector.select():
            if key.fd == wakeup_read:
                os.read(wakeup_read, _READ_SIZE)
                _report_ended(requests)
                continue
            received = os.read(0, _READ_SIZE)
            if not received:
                return 0
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _become_worker(request)
                requests[pid] = request["start"]
                _send({"started": request["start"], "pid": pid})


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing; only with a handler does the signal write to the wakeup pipe."""


def _report_ended(requests: dict[int, int]) -> None:
    while requests:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in requests:
            _send({"ended": requests.pop(pid), "status": os.waitstatus_to_exitcode(status)})


def _become_worker(request: dict[str, Any]) -> NoReturn:
    """Act as a new worker process with these arguments would, and exit."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _redirect_output(request["log"])
        os.environ.update(request["environment"])
        from .job_worker import main as run_worker  # noqa: PLC0415 - loaded already

        status = run_worker(request["arguments"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - nothing may return to the server's loop
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect_output(log: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 256)


def _send(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
