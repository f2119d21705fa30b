"""The process that works on one job: `python -m tunesmith.engine.jobs.job_worker … JOB_ID`.

It is bound to the database directly, not to the server: it outlives a server that is
killed, and can bring its job to the end while none runs. On SIGTERM it writes a
checkpoint, puts its job back into the queue and ends.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy.exc import OperationalError

from tunesmith.engine.domain.errors import LostLeaseError
from tunesmith.engine.home import Home
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.database import Database
from tunesmith.engine.training import train
from tunesmith.errors import TunesmithError

from . import leases, lifecycle
from .finishing import finish
from .launcher import DATABASE_VARIABLE, lower_priority
from .reporter import Reporter
from .validation import find_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tunesmith.engine.store.records import JobRow
    from tunesmith.engine.training.spec import TrainingObserver, TrainingOutcome, TrainingSpec

__all__ = ["Train", "Worker", "main"]

Train: TypeAlias = "Callable[[TrainingSpec, TrainingObserver], TrainingOutcome]"
"""What does the work of a training: `tunesmith.engine.training.train`, or another one."""

_log = logging.getLogger("tunesmith.engine.worker")

_LOST = 70
_LITTLE = 1 << 20
_DISK_FULL = (
    "The engine's disk is full. Make room (`tunesmith engine gc` removes what is no longer "
    "needed), then create the job again."
)


class _Interruption(BaseException):
    """SIGTERM before there was anything to save."""


class Worker:
    """One job, held."""

    def __init__(self, database: Database, home: Home, job_id: str, worker_id: str) -> None:
        self.database = database
        self.home = home
        self.job_id = job_id
        self.worker_id = worker_id
        self.shutdown: threading.Event = threading.Event()
        self.reporter: Reporter | None = None
        self.listener: Callable[[str], None] = lambda _status: None

    def beat(self) -> None:
        """Give one sign of life."""
        with self.database.write() as connection:
            status = leases.beat(connection, self.job_id, self.worker_id)
        self.listener(status)

    def keep_beating(self, seconds: float) -> None:
        """Give signs of life for ever; end the process once another one has the job."""
        pause = threading.Event()
        while not pause.wait(seconds):
            try:
                self.beat()
            except LostLeaseError as error:
                _log.error("%s", error)
                os._exit(_LOST)
            except OperationalError as error:
                _log.warning("heartbeat: %s", error.orig)

    def terminate(self) -> None:
        """End as soon as nothing is lost by it: at once, or after the step that is under way."""
        if self.shutdown.is_set():
            return
        self.shutdown.set()
        if self.reporter is None or not self.reporter.has_plan:
            raise _Interruption

    def job(self) -> JobRow:
        """Return the job as it is now."""
        with self.database.write() as connection:
            return leases.held(connection, self.job_id, self.worker_id)

    def validate(self) -> None:
        """Check the job's files and queue it, or end it with the first fault."""
        job = self.job()
        fault = find_fault(self.database, self.home, job)
        with self.database.write() as connection:
            job = leases.held(connection, self.job_id, self.worker_id)
            if job.status == "validating_files" and fault is None:
                lifecycle.validated(connection, job)
            elif job.status == "validating_files" and fault is not None:
                lifecycle.fail(connection, job, fault.code, fault.message, fault.param)
            leases.release(connection, leases.held(connection, self.job_id, self.worker_id))

    def train(self, train: Train) -> None:
        """Train, and register what comes out of it."""
        from tunesmith.engine.training.spec import TrainingSpec  # noqa: PLC0415 - not to validate

        path = self.home.job(self.job_id) / "spec.json"
        spec = TrainingSpec.model_validate_json(path.read_bytes())
        self.reporter = Reporter(
            self.database, self.job(), self.worker_id, self.home.root, self.shutdown.is_set
        )
        self.listener = self.reporter.heard
        outcome = train(spec, self.reporter)
        if outcome.stopped is None:
            finish(self.database, self.home, self.job_id, self.worker_id, outcome)
        else:
            self.release()

    def tidy(self) -> None:
        """Remove the job's own names of its data, if it has ended."""
        with self.database.read() as connection:
            job = job_queries.find(connection, self.job_id)
        if job is not None and job.is_terminal:
            shutil.rmtree(self.home.job(self.job_id) / "data", ignore_errors=True)

    def release(self) -> None:
        """Let the job go, back into the queue if it was interrupted."""
        with self.database.write() as connection:
            leases.release(connection, leases.held(connection, self.job_id, self.worker_id))

    def fail(self, code: str, message: str, param: str | None = None) -> None:
        """End the job with an error."""
        with self.database.write() as connection:
            job = leases.held(connection, self.job_id, self.worker_id)
            if job.status in {"running", "validating_files"}:
                lifecycle.fail(connection, job, code, message, param)
            leases.release(connection, leases.held(connection, self.job_id, self.worker_id))


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on the job that the command line names; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="tunesmith.engine.jobs.job_worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--stage", choices=("validation", "training"), required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--heartbeat", type=float, default=2.0)
    parser.add_argument("--ray", help="let Ray train, with these settings (JSON)")
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
            _work(worker, options.stage, options.heartbeat, options.ray)
            worker.tidy()
        except _Interruption:
            worker.release()
    except LostLeaseError as error:
        _log.error("%s", error)
        return _LOST
    return 0


def _work(worker: Worker, stage: leases.Stage, heartbeat: float, ray: str | None) -> None:
    try:
        worker.beat()
        threading.Thread(target=worker.keep_beating, args=(heartbeat,), daemon=True).start()
        if stage == "validation":
            worker.validate()
        else:
            worker.train(train if ray is None else _by_ray(ray))
    except (LostLeaseError, _Interruption):
        raise
    except ModuleNotFoundError as error:
        _log.exception("import")
        extra = "engine" if ray is None else "engine,ray"
        message = f"{error}. This training needs: pip install 'tunesmith[{extra}]'."
        worker.fail("engine_incomplete", message)
    except TunesmithError as error:
        _log.exception("job")
        code = getattr(error, "code", None) or "training_failed"
        if code == "disk_full":
            _fail_without_room(worker, str(error))
        else:
            worker.fail(code, str(error), getattr(error, "param", None))
    except (MemoryError, OSError, RuntimeError, ValueError, ArithmeticError) as error:
        _log.exception("job")
        if _is_disk_full(error, worker.home):
            _fail_without_room(worker)
        else:
            worker.fail(*_explained(error))
    except OperationalError as error:
        if not _is_disk_full(error, worker.home):
            raise
        _log.error("the disk is full: %s", error.orig)
        _fail_without_room(worker)


def _by_ray(settings: str) -> Train:
    from tunesmith.engine.config import RayConfig  # noqa: PLC0415 - seldom needed

    from .ray_training import train_on_ray  # noqa: PLC0415 - loads torch

    return partial(train_on_ray, settings=RayConfig(**json.loads(settings)))


def _is_disk_full(error: Exception, home: Home) -> bool:
    """Return whether this is why; SQLite also calls it an I/O error."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    if not isinstance(error, OperationalError):
        return False
    return "disk is full" in str(error) or shutil.disk_usage(home.root).free < _LITTLE


def _fail_without_room(worker: Worker, message: str = _DISK_FULL) -> None:
    """End the job on a full disk, after making room for the few words that this takes."""
    shutil.rmtree(worker.home.job(worker.job_id) / "work", ignore_errors=True)
    for wait in (0.1, 1.0, 3.0, 10.0):
        try:
            worker.fail("disk_full", message)
        except OperationalError:
            time.sleep(wait)
        else:
            return
    worker.fail("disk_full", message)


def _explained(error: Exception) -> tuple[str, str]:
    """Return a code and a paragraph for an error that is nobody's in particular."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return "out_of_memory", (
            "The training ran out of memory. Create the job again with a smaller batch_size, or "
            "with shorter examples."
        )
    first = text.splitlines()[0]
    return "training_failed", f"The training ended with an error: {first}"


if __name__ == "__main__":
    sys.exit(main())
