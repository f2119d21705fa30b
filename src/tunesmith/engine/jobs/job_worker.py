"""The process that works on one job: `python -m tunesmith.engine.jobs.job_worker … JOB_ID`.

It uses the database directly, not the server: it survives a server that is killed, and can
finish its job while none runs. On SIGTERM it writes a checkpoint, puts its job back into
the queue and exits.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy.exc import OperationalError

from tunesmith._install import install_extra
from tunesmith.engine.domain.errors import LostLeaseError
from tunesmith.engine.domain.exhausted import (
    DISK_FULL,
    OUT_OF_MEMORY,
    is_disk_full,
    is_out_of_memory,
)
from tunesmith.engine.home import Home
from tunesmith.engine.models.gpus import GPU_VARIABLE
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.database import Database
from tunesmith.engine.training import train
from tunesmith.errors import TunesmithError

from . import leases, lifecycle
from .finishing import finish
from .launcher import DATABASE_VARIABLE, lower_priority
from .model_proof import find_model_fault
from .reporter import Reporter
from .validation import find_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tunesmith.engine.store.records import JobRow
    from tunesmith.engine.training.spec import TrainingObserver, TrainingOutcome, TrainingSpec

    from .validation import JobFault

__all__ = ["Prove", "Train", "Worker", "main"]

Train: TypeAlias = "Callable[[TrainingSpec, TrainingObserver], TrainingOutcome]"
"""A function that trains: `tunesmith.engine.training.train`, or another one."""

Prove: TypeAlias = "Callable[[Home, JobRow], JobFault | None]"
"""A function that finds out whether a job's model can be trained and served."""

_log = logging.getLogger("tunesmith.engine.worker")

_EXIT_LOST_LEASE = 70
_ALMOST_FULL_BYTES = 1 << 20
_WATCH_SECONDS = 0.25


class _Interrupted(BaseException):
    """SIGTERM came before there was anything to save."""


class Worker:
    """Works on one job that was claimed for it.

    Args:
        database: Where the job is.
        home: The state folder.
        job_id: The job.
        worker_id: The worker id in the claim.
    """

    def __init__(self, database: Database, home: Home, job_id: str, worker_id: str) -> None:
        self.database = database
        self.home = home
        self.job_id = job_id
        self.worker_id = worker_id
        self.shutdown: threading.Event = threading.Event()
        self.reporter: Reporter | None = None
        self.on_status: Callable[[str], None] = lambda _status: None

    def heartbeat(self) -> None:
        """Send one heartbeat."""
        with self.database.write() as connection:
            status = leases.heartbeat(connection, self.job_id, self.worker_id)
        self.on_status(status)

    def keep_alive(self, seconds: float) -> None:
        """Send heartbeats for ever; exit the process once another one has the job."""
        while True:
            time.sleep(seconds)
            try:
                self.heartbeat()
            except LostLeaseError as error:
                _log.error("%s", error)
                os._exit(_EXIT_LOST_LEASE)
            except OperationalError as error:
                _log.warning("heartbeat: %s", error.orig)

    def terminate(self) -> None:
        """Stop after the current step with a checkpoint; at once if there is nothing to save."""
        if self.shutdown.is_set():
            return
        self.shutdown.set()
        if self.reporter is None or not self.reporter.has_plan:
            raise _Interrupted

    def job(self) -> JobRow:
        """Return the job as it is now in the database."""
        with self.database.write() as connection:
            return leases.lock_claimed(connection, self.job_id, self.worker_id)

    def validate(
        self,
        seconds: float = math.inf,
        max_tokens: int | None = None,
        *,
        prove: Prove | None = None,
        with_model: bool = True,
    ) -> None:
        """Check the job's files and model, then queue the job, or fail it with the first fault.

        Args:
            seconds: Processor time after which the job fails and the process exits.
            max_tokens: Most tokens of an example; None for the model's context.
            with_model: Whether to check the rows with the base model's files, too.
            prove: Finds out whether the model can be trained and served; None where nothing is
                computed with it.
        """
        job = self.job()
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(job, seconds, done), daemon=True)
        watch.start()
        try:
            fault = find_fault(self.database, self.home, job, max_tokens, with_model=with_model)
        finally:
            done.set()
            watch.join()
        if fault is None and prove is not None:
            fault = prove(self.home, job)
        with self.database.write() as connection:
            job = leases.lock_claimed(connection, self.job_id, self.worker_id)
            if job.status == "validating_files" and fault is None:
                lifecycle.queue(connection, job)
            elif job.status == "validating_files" and fault is not None:
                lifecycle.fail(connection, job, fault.code, fault.message, fault.param)
            leases.release(connection, leases.lock_claimed(connection, self.job_id, self.worker_id))

    def _watch(self, job: JobRow, seconds: float, done: threading.Event) -> None:
        # Processor time, so that a busy or suspended machine takes nothing off it.
        end = time.process_time() + seconds
        while time.process_time() < end:
            if done.wait(_WATCH_SECONDS):
                return
        files = " and ".join(filter(None, [job.training_file, job.validation_file]))
        message = (
            f"The validation of {files} took more than {seconds:g} seconds of processor time, the "
            "limit (validation_seconds in the engine's settings). Split the data into "
            "smaller files, or check it with `tunesmith tools check`."
        )
        _log.error("%s", message)
        try:
            self.fail("validation_timeout", message, "training_file")
        finally:
            os._exit(0)

    def train(self, train: Train) -> None:
        """Train, and store result file and model."""
        from tunesmith.engine.training.spec import TrainingSpec  # noqa: PLC0415 - not to validate

        path = self.home.job(self.job_id) / "spec.json"
        spec = TrainingSpec.model_validate_json(path.read_bytes())
        self.reporter = Reporter(
            self.database, self.job(), self.worker_id, self.home.root, self.shutdown.is_set
        )
        self.on_status = self.reporter.set_status
        if gpus := os.environ.get(GPU_VARIABLE):
            self.reporter.note(f"device {gpus}", _device_note(gpus))
        outcome = train(spec, self.reporter)
        if outcome.stopped is None:
            finish(self.database, self.home, self.job_id, self.worker_id, outcome)
        else:
            self.release()

    def clean_up(self) -> None:
        """Remove the job's links to its data, if it has ended."""
        with self.database.read() as connection:
            job = job_queries.find(connection, self.job_id)
        if job is not None and job.is_terminal:
            shutil.rmtree(self.home.job(self.job_id) / "data", ignore_errors=True)

    def release(self) -> None:
        """End the claim on the job; if it was interrupted, it goes back into the queue."""
        with self.database.write() as connection:
            leases.release(connection, leases.lock_claimed(connection, self.job_id, self.worker_id))

    def fail(self, code: str, message: str, param: str | None = None) -> None:
        """Fail the job. Folders of this machine are left out of the message."""
        message = message.replace(f"{self.home.root}/", "")
        # What a library says may hold what no database takes.
        message = message.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
        with self.database.write() as connection:
            job = leases.lock_claimed(connection, self.job_id, self.worker_id)
            if job.status in {"running", "validating_files"}:
                lifecycle.fail(connection, job, code, message, param)
            leases.release(connection, leases.lock_claimed(connection, self.job_id, self.worker_id))


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on the job that the command line names; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="tunesmith.engine.jobs.job_worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--stage", choices=("validation", "training"), required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--heartbeat", type=float, default=2.0)
    parser.add_argument("--validation-seconds", type=float, default=math.inf)
    parser.add_argument("--max-example-tokens", type=int)
    parser.add_argument("--processes", type=int, default=1, help="that share the training")
    parser.add_argument("--ray", help="train on Ray, with these settings (JSON)")
    parser.add_argument("job_id")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    lower_priority()
    database = Database(os.environ.pop(DATABASE_VARIABLE), durable=False)
    worker = Worker(database, Home(options.home), options.job_id, options.worker)

    def terminate(_number: int, _frame: object) -> None:
        worker.terminate()

    signal.signal(signal.SIGTERM, terminate)
    try:
        try:
            _work(worker, options)
            worker.clean_up()
        except _Interrupted:
            worker.release()
    except LostLeaseError as error:
        _log.error("%s", error)
        return _EXIT_LOST_LEASE
    return 0


def _work(worker: Worker, options: argparse.Namespace) -> None:
    ray: str | None = options.ray
    try:
        worker.heartbeat()
        threading.Thread(target=worker.keep_alive, args=(options.heartbeat,), daemon=True).start()
        if options.stage == "validation":
            worker.validate(
                options.validation_seconds, options.max_example_tokens, prove=find_model_fault
            )
        else:
            worker.train(_trainer(ray, options.processes))
    except (LostLeaseError, _Interrupted):
        raise
    except ModuleNotFoundError as error:
        _log.exception("import")
        extra = "engine" if ray is None else "engine,ray"
        message = f"{error}. This training needs: {install_extra(extra)}"
        worker.fail("engine_incomplete", message)
    except TunesmithError as error:
        _log.exception("job")
        code = getattr(error, "code", None) or "training_failed"
        if code == "disk_full":
            _fail_on_full_disk(worker, str(error))
        else:
            worker.fail(code, str(error), getattr(error, "param", None))
    except OperationalError as error:
        if not _is_disk_full(error, worker.home):
            raise
        _log.error("the disk is full: %s", error.orig)
        _fail_on_full_disk(worker)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the job has to name it
        # Not only Exception: a library may exit, and a panic in Rust code is no Exception.
        _log.exception("job")
        if _is_disk_full(error, worker.home):
            _fail_on_full_disk(worker)
        else:
            worker.fail(*_explain(error, options.stage))


def _device_note(gpus: str) -> str:
    """Return what is said of the cards that the job was given."""
    import torch  # noqa: PLC0415 - not to validate

    if torch.cuda.is_available():
        return f"Training on {gpus}"
    return (
        f"Training on the processor: the job has {gpus}, but PyTorch {torch.__version__} cannot "
        "use it. Install a PyTorch with CUDA (https://pytorch.org/get-started)."
    )


def _trainer(ray: str | None, processes: int) -> Train:
    """Return what trains: this process alone, several of this machine, or Ray's."""
    if ray is not None:
        return _train_on_ray(ray)
    if processes > 1:
        from .torchrun_training import train_with_torchrun  # noqa: PLC0415 - seldom needed

        return partial(train_with_torchrun, processes=processes)
    return train


def _train_on_ray(settings: str) -> Train:
    from tunesmith.engine.config import RayConfig  # noqa: PLC0415 - seldom needed

    from .ray_training import train_on_ray  # noqa: PLC0415 - loads torch

    return partial(train_on_ray, settings=RayConfig(**json.loads(settings)))


def _is_disk_full(error: BaseException, home: Home) -> bool:
    """Return whether an error was raised because the disk is full.

    SQLite also reports it as an I/O error, so the free space counts, too.
    """
    if not isinstance(error, (OSError, OperationalError)):
        return False
    return is_disk_full(error) or (
        isinstance(error, OperationalError)
        and shutil.disk_usage(home.root).free < _ALMOST_FULL_BYTES
    )


def _fail_on_full_disk(worker: Worker, message: str = DISK_FULL) -> None:
    """Fail the job on a full disk, after freeing the space that storing the error takes."""
    shutil.rmtree(worker.home.job(worker.job_id) / "work", ignore_errors=True)
    for wait in (0.1, 1.0, 3.0, 10.0):
        try:
            worker.fail("disk_full", message)
        except OperationalError:
            time.sleep(wait)
        else:
            return
    worker.fail("disk_full", message)


def _explain(error: BaseException, stage: leases.Stage) -> tuple[str, str]:
    """Return a code and a message for an error of no known kind."""
    if is_out_of_memory(error):
        return "out_of_memory", OUT_OF_MEMORY
    cause = (str(error).strip() or "no message").splitlines()[0]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.name}, {Path(frame.filename).name} line {frame.lineno}"
    return f"{stage}_failed", (
        f"The {stage} ended with an error: {type(error).__name__}: {cause} (in {place}). "
        "worker.log in the job's folder on the engine has the whole traceback."
    )


if __name__ == "__main__":
    sys.exit(main())
