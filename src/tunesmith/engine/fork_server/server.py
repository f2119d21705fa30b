"""The fork server: a process that has loaded the libraries and forks processes that use them.

Loading PyTorch and transformers takes three to ten seconds of a core; a fork of a process
that has loaded them takes none. The fork server only loads: it computes nothing, so it has
a single thread, and forking it is safe. `client` starts it and talks to it through a socket,
its standard input, which keeps the borders of messages. Each is a JSON object:

    → {"fork": 1, "module": "...", "arguments": [...], "environment": {...}}
      with three descriptors: the new process's standard input, output and error
    ← {"ready": true}, {"forked": 1, "pid": 4711}, {"ended": 1, "status": 0}

The new process runs the module's `main(arguments)`. The server exits when its socket is closed;
the processes continue.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from .client import LARGEST_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

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
_STANDARD_STREAMS = 3
_MOST_DESCRIPTORS = 256


def main() -> int:
    """Load the libraries, then fork on request until the socket is closed."""
    gc.disable()  # of what is loaded nothing is garbage: looking for it takes a fifth of the time
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:  # the new process will report what is missing
            continue
    # Processes share this memory until they write to it, and a collection writes to each object.
    gc.collect()
    gc.freeze()
    gc.enable()
    client = socket.socket(fileno=0)
    _send(client, {"ready": True})
    # A signal for each ended child is turned into bytes on a pipe that `select` can wait for.
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_read, False)
    os.set_blocking(wakeup_write, False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(client, selectors.EVENT_READ)
    selector.register(wakeup_read, selectors.EVENT_READ)
    numbers: dict[int, int] = {}  # of the requests, by pid
    while True:
        for key, _ in selector.select():
            if key.fd == wakeup_read:
                os.read(wakeup_read, _MOST_DESCRIPTORS)
                _report_ended(client, numbers)
                continue
            message, streams, _, _ = socket.recv_fds(client, LARGEST_MESSAGE, _STANDARD_STREAMS)
            if not message:
                return 0
            request = json.loads(message)
            pid = os.fork()
            if pid == 0:
                _become(request, streams)
            for stream in streams:
                os.close(stream)
            numbers[pid] = request["fork"]
            _send(client, {"forked": request["fork"], "pid": pid})


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing; only with a handler does the signal write to the wakeup pipe."""


def _report_ended(client: socket.socket, numbers: dict[int, int]) -> None:
    while numbers:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in numbers:
            ended = {"ended": numbers.pop(pid), "status": os.waitstatus_to_exitcode(status)}
            _send(client, ended)


def _become(request: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Act as a new process would that runs the module with these arguments, and exit."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        os.closerange(_STANDARD_STREAMS, _MOST_DESCRIPTORS)
        os.environ.update(request["environment"])
        _set_name(request["module"].rpartition(".")[2])
        status = importlib.import_module(request["module"]).main(request["arguments"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - nothing may return to the server's loop
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _set_name(name: str) -> None:
    """Set the name that `ps` and `top` show; the command line stays the fork server's."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(name)


def _send(client: socket.socket, message: dict[str, Any]) -> None:
    client.send(json.dumps(message).encode())


if __name__ == "__main__":
    sys.exit(main())
