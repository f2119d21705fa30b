"""Training by several processes of this machine, which torchrun starts and starts again.

The job's own process does what it does elsewhere: it has the claim on the job and writes the
rows. Instead of training it runs torchrun and answers its processes: each record of the first
one is stored before that one continues. If a process dies, torchrun starts all of them again,
and they resume from the checkpoints in the job's work folder. If memory does not suffice for one,
all start again, too, with less at a time. If the job's process dies, they end, too.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import subprocess
import sys
import threading
from datetime import timedelta
from multiprocessing.connection import Client, Connection, Listener
from typing import TYPE_CHECKING, Any, NoReturn

from tunesmith.engine.domain.errors import EngineError, TrainingError
from tunesmith.engine.training.environment import SHARED_VARIABLES, available_threads
from tunesmith.engine.training.spec import TrainingOutcome, TrainingSpec

from .lowered_limit import LoweredLimit, lowered, run_with_less

if TYPE_CHECKING:
    from tunesmith.engine.training.spec import StopRequest, TrainingObserver

__all__ = ["main", "train_with_torchrun"]

_SPEC, _ADDRESS, _KEY = (f"TUNESMITH_SHARED_{name}" for name in ("SPEC", "ADDRESS", "KEY"))
_RESTARTS = 3  # without a step in between, the dispatcher's count of attempts decides
_POLL_SECONDS = 0.2
_END_SECONDS = 30.0
_COLLECTIVE_TIMEOUT = timedelta(days=1)  # the leader may prepare for hours while others wait


def train_with_torchrun(
    spec: TrainingSpec, observer: TrainingObserver, processes: int
) -> TrainingOutcome:
    """Train as `tunesmith.engine.training.train` does, with several processes.

    Args:
        spec: The job.
        observer: Receives what happens.
        processes: How many: one for each GPU, or any number on a machine without.

    Raises:
        TrainingError: The training cannot continue, or there are fewer GPUs than processes.
        EngineError: The processes ended for another reason.
    """
    _require_gpus(processes)
    threads = spec.threads or int(os.environ.get("OMP_NUM_THREADS", available_threads()))
    each = max(1, threads // processes)
    spec = spec.model_copy(update={"threads": each})
    return run_with_less(lambda: _run(spec, observer, processes), spec, observer)


def _run(
    spec: TrainingSpec, observer: TrainingObserver, processes: int
) -> TrainingOutcome | LoweredLimit:
    key = secrets.token_bytes(32)
    with Listener(authkey=key) as listener:
        calls = _Calls(listener)
        variables = {
            _SPEC: spec.model_dump_json(),
            _ADDRESS: str(listener.address),
            _KEY: key.hex(),
            "OMP_NUM_THREADS": str(spec.threads),
            **SHARED_VARIABLES,
        }
        command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", f"--max-restarts={_RESTARTS}"]
        command += ["--local-addr=127.0.0.1", "-m", __name__]
        torchrun = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=dict(os.environ) | variables
        )
        try:
            return calls.answer(observer, torchrun)
        finally:
            _end(torchrun)


def _require_gpus(processes: int) -> None:
    import torch  # noqa: PLC0415 - slow to import

    if torch.cuda.is_available() and (found := torch.cuda.device_count()) < processes:
        msg = (
            f"The settings ask for {processes} processes of each job (processes_per_job), one for "
            f"each GPU, and {found} can be used here. Set processes_per_job = {found}."
        )
        raise TrainingError(msg, "invalid_hyperparameters")


def _end(torchrun: subprocess.Popen[bytes]) -> None:
    torchrun.terminate()  # it ends its processes
    try:
        torchrun.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        torchrun.kill()
        torchrun.wait()


class _Calls:
    """Calls of the training's processes, answered in the main thread."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._waiting: queue.SimpleQueue[tuple[Connection[Any, Any], str, tuple[Any, ...]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._accept, name="processes", daemon=True).start()

    def answer(
        self, observer: TrainingObserver, torchrun: subprocess.Popen[bytes]
    ) -> TrainingOutcome | LoweredLimit:
        """Answer calls until the training has ended, and return its outcome, or what it lacks."""
        fault = ""
        while True:
            try:
                connection, name, arguments = self._waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if torchrun.poll() is None:
                    continue
                msg = f"The training's processes ended (torchrun's status {torchrun.returncode})"
                raise EngineError(f"{msg}: {fault or 'worker.log says why'}.") from None
            if name == "outcome":
                outcome: TrainingOutcome = arguments[0]
                with contextlib.suppress(OSError):
                    connection.send(None)
                return outcome
            if name == "failed":
                raise arguments[0]
            if name == "lowered":
                limit: LoweredLimit = arguments[0]
                return limit
            result = None
            if name == "crashed":
                fault = arguments[0]
            else:
                result = getattr(observer, name)(*arguments)
            with contextlib.suppress(OSError):  # it has died; torchrun starts another one
                connection.send(result)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed, or a process that died while it connected
                if self._is_closed():
                    return
                continue
            threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _is_closed(self) -> bool:
        try:
            return not self._listener.address
        except (AttributeError, OSError):
            return True

    def _receive(self, connection: Connection[Any, Any]) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                name, arguments = connection.recv()
                self._waiting.put((connection, name, arguments))


class _Caller:
    """Calls the observer in the job's process, as one of the training's processes."""

    def __init__(self) -> None:
        self._connection = _connect()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.call(name, *arguments)

    def call(self, name: str, *arguments: Any) -> Any:
        """Return what the observer's method returned."""
        self._connection.send((name, arguments))
        return self._connection.recv()


class NullObserver:
    """The observer of the other processes: it drops everything."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments: None

    def stop_requested(self) -> StopRequest | None:
        """Return None: the leader asks."""
        return None


def main() -> None:
    """Train as one of the processes that torchrun has started."""
    threading.Thread(target=_end_with_job, args=(_connect(),), daemon=True).start()
    caller = _Caller()
    from tunesmith.engine.training.memory_limit import LoweredLimitError  # noqa: PLC0415 - torch
    from tunesmith.engine.training.run import run  # noqa: PLC0415 - slow, and maybe in vain

    _join()
    is_leader = os.environ["RANK"] == "0"
    observer: Any = caller if is_leader else NullObserver()
    try:
        outcome = run(TrainingSpec.model_validate_json(os.environ[_SPEC]), observer)
    except TrainingError as error:
        caller.call("failed", error)
        raise
    except LoweredLimitError as error:
        caller.call("lowered", lowered(error))
        raise
    except BaseException as error:
        caller.call("crashed", f"{type(error).__name__}: {error}")
        raise
    _leave()
    if is_leader:
        caller.call("outcome", outcome)


def _join() -> None:
    import torch  # noqa: PLC0415 - slow to import
    from torch import distributed  # noqa: PLC0415
    from torch.distributed.distributed_c10d import PrefixStore  # noqa: PLC0415
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    store, rank, processes = next(rendezvous("env://"))
    # torchrun keeps the store when it starts the processes again. Without a prefix of their own
    # they would find there the addresses of those before them.
    store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=processes, timeout=_COLLECTIVE_TIMEOUT
    )


def _leave() -> None:
    from torch import distributed  # noqa: PLC0415 - slow to import

    distributed.barrier()
    distributed.destroy_process_group()


def _connect() -> Connection[Any, Any]:
    return Client(os.environ[_ADDRESS], authkey=bytes.fromhex(os.environ[_KEY]))


def _end_with_job(connection: Connection[Any, Any]) -> NoReturn:
    """End this process as soon as the job's process is no more."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


if __name__ == "__main__":
    main()
