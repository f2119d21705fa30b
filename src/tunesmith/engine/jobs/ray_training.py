"""Training on Ray: each batch is shared by workers of a Ray cluster, or of a local Ray.

The job's own process does what it does elsewhere: it has the claim on the job and writes
the rows. Instead of training it drives a Ray `TorchTrainer`. Ray restarts workers that die,
and they resume from the checkpoints in the job's work folder. The records of the first worker
travel to this process through a small actor; the worker waits until each is stored, so no
checkpoint is newer than the rows that belong to it.

The state folder must have the same path for all workers: on this machine, or on a file
system that the cluster's machines share.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.engine.domain.errors import EngineError, TrainingError
from tunesmith.engine.training.environment import SHARED_VARIABLES
from tunesmith.engine.training.memory_limit import LoweredLimitError
from tunesmith.engine.training.run import run
from tunesmith.engine.training.spec import TrainingOutcome, TrainingSpec

from .lowered_limit import LoweredLimit, lowered, run_with_less

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.engine.config import RayConfig
    from tunesmith.engine.training.spec import StopRequest, TrainingObserver

__all__ = ["train_on_ray", "train_worker", "worker_resources"]

_Message: TypeAlias = "tuple[str, tuple[Any, ...]]"  # name of an observer's method, arguments

_RECEIVE_SECONDS = 0.2
_COLLECTIVE_TIMEOUT_SECONDS = 24 * 3600  # the leader may prepare for hours while others wait


def train_on_ray(
    spec: TrainingSpec, observer: TrainingObserver, settings: RayConfig
) -> TrainingOutcome:
    """Train as `tunesmith.engine.training.train` does, with several workers of Ray.

    Raises:
        TrainingError: The training cannot continue.
        EngineError: Ray failed.
    """
    return run_with_less(lambda: _run(spec, observer, settings), spec, observer)


def _run(
    spec: TrainingSpec, observer: TrainingObserver, settings: RayConfig
) -> TrainingOutcome | LoweredLimit:
    ray: Any = import_module("ray")

    os.environ.update(SHARED_VARIABLES)  # for the workers of a Ray that is started here
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(max(60.0, settings.placement_seconds))
    )
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=settings.address,
        include_dashboard=False,
        log_to_driver=False,
        num_cpus=None if settings.address else os.cpu_count() or 1,
    )
    signal.signal(signal.SIGTERM, handler)  # Ray has replaced it
    try:
        mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
        trainer = _trainer(spec, settings, mailbox, lambda: observer.stop_requested() is not None)
        fit = _FitThread(trainer)
        fit.start()
        messages: list[_Message] = []
        while fit.is_alive():
            request = observer.stop_requested()
            messages = ray.get(mailbox.receive.remote(len(messages), request))
            for name, arguments in messages:
                if name == "outcome":
                    (fit.outcome,) = arguments
                elif name == "failed":
                    raise arguments[0]
                elif name == "lowered":
                    limit: LoweredLimit = arguments[0]
                    return limit
                else:
                    getattr(observer, name)(*arguments)
        if fit.outcome is None:
            raise EngineError(f"Ray stopped the training: {fit.error}") from fit.error
        return fit.outcome
    finally:
        ray.shutdown()


class _FitThread(threading.Thread):
    """Waits for Ray while the main thread receives the workers' messages."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(name="ray", daemon=True)
        self.outcome: TrainingOutcome | None = None
        self.error: Exception | None = None
        self._trainer = trainer

    def run(self) -> None:
        """Run the trainer to its end."""
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self.error = error


def _trainer(
    spec: TrainingSpec, settings: RayConfig, mailbox: Any, should_stop: Callable[[], bool]
) -> Any:
    ray: Any = import_module("ray")
    train: Any = import_module("ray.train")
    ray_torch: Any = import_module("ray.train.torch")

    use_gpu = settings.use_gpu
    if use_gpu is None:
        use_gpu = ray.cluster_resources().get("GPU", 0) > 0
    resources = worker_resources(ray.nodes(), settings.workers, use_gpu=use_gpu)
    threads = max(1, int(resources["CPU"]))
    if spec.threads is not None:
        threads = max(1, min(threads, spec.threads // settings.workers))
    spec = spec.model_copy(update={"threads": threads})
    _require_place(resources, settings, should_stop)
    return ray_torch.TorchTrainer(
        train_worker,
        train_loop_config={"spec": spec.model_dump_json(), "mailbox": mailbox},
        scaling_config=train.ScalingConfig(
            num_workers=settings.workers,
            use_gpu=use_gpu,
            resources_per_worker=resources,
        ),
        torch_config=ray_torch.TorchConfig(
            backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo",
            timeout_s=_COLLECTIVE_TIMEOUT_SECONDS,
        ),
        run_config=train.RunConfig(
            name=spec.job_id,
            storage_path=str(spec.work_path / "ray"),
            failure_config=train.FailureConfig(max_failures=settings.max_failures),
        ),
    )


def worker_resources(
    nodes: list[dict[str, Any]], workers: int, *, use_gpu: bool
) -> dict[str, float]:
    """Return what each worker asks for: as many CPUs as all workers can have, and its GPU."""
    cores = [node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]]
    gpu = {"GPU": 1.0} if use_gpu else {}
    for cpus in range(int(max(cores, default=1)), 0, -1):
        if sum(int(count // cpus) for count in cores) >= workers:
            return {"CPU": float(cpus), **gpu}
    # Fewer cores than workers: Ray counts in parts of one, too.
    share = math.floor(100 * sum(cores) / workers) / 100
    return {"CPU": min(1.0, max(share, 0.01)), **gpu}


def _require_place(
    resources: dict[str, float], settings: RayConfig, should_stop: Callable[[], bool]
) -> None:
    """Wait until the cluster has what the workers ask for.

    Raises:
        TrainingError: It does not within the time limit; the text says what it lacks.
    """
    ray: Any = import_module("ray")
    ray_util: Any = import_module("ray.util")

    group = ray_util.placement_group([resources] * settings.workers, strategy="PACK")
    end = time.monotonic() + settings.placement_seconds
    try:
        while not group.wait(min(1.0, settings.placement_seconds)):
            if should_stop() or time.monotonic() < end:
                if should_stop():
                    return
                continue
            names = sorted(resources)
            asked = ", ".join(f"{resources[name] * settings.workers:g} {name}" for name in names)
            whole, free = ray.cluster_resources(), ray.available_resources()
            has = ", ".join(
                f"{whole.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in names
            )
            each = ", ".join(f"{resources[name]:g} {name}" for name in names)
            msg = (
                f"Ray could not place {settings.workers} workers with {each} each within "
                f"{settings.placement_seconds:g} seconds (ray.placement_seconds): they ask for "
                f"{asked}, and the cluster has {has}. Set fewer ray.workers, add machines, or, "
                "to train on processors, set ray.use_gpu = false."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
    finally:
        ray_util.remove_placement_group(group)


def train_worker(config: dict[str, Any]) -> None:
    """Run in each of Ray's workers."""
    ray: Any = import_module("ray")
    train: Any = import_module("ray.train")

    mailbox = config["mailbox"]
    is_leader = train.get_context().get_world_rank() == 0
    observer: Any = _ForwardingObserver(mailbox) if is_leader else _NullObserver()
    try:
        spec = TrainingSpec.model_validate_json(config["spec"])
        outcome = run(spec, observer)
    except TrainingError as error:
        ray.get(mailbox.send.remote("failed", error))
        raise
    except LoweredLimitError as error:
        ray.get(mailbox.send.remote("lowered", lowered(error)))
        raise
    if is_leader:
        ray.get(mailbox.send.remote("outcome", outcome))


class _Mailbox:
    """An actor between the first worker, which sends, and the job's process, which receives."""

    def __init__(self) -> None:
        self._messages: list[_Message] = []
        self._handled = 0
        self._request: StopRequest | None = None
        self._changed = asyncio.Condition()

    async def send(self, name: str, *arguments: Any) -> None:
        """Add a message and wait until it has been handled."""
        async with self._changed:
            self._messages.append((name, arguments))
            number = self._handled + len(self._messages)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._handled >= number)

    async def receive(self, handled: int, request: StopRequest | None) -> list[_Message]:
        """Return the messages so far; after a short wait, an empty list if there are none.

        Args:
            handled: Number of messages that the last call returned, all handled by now.
            request: What workers that poll for a stop request are to be given.
        """
        async with self._changed:
            self._request = request
            self._messages = self._messages[handled:]
            self._handled += handled
            self._changed.notify_all()
            has_messages = self._changed.wait_for(lambda: bool(self._messages))
            try:
                await asyncio.wait_for(has_messages, _RECEIVE_SECONDS)
            except TimeoutError:
                return []
            return list(self._messages)

    async def stop_request(self) -> StopRequest | None:
        """Return the request to stop, if there is one."""
        return self._request


class _ForwardingObserver:
    """The first worker's observer: it forwards every record to the job's process."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __getattr__(self, name: str) -> Any:
        ray: Any = import_module("ray")

        return lambda *arguments: ray.get(self._mailbox.send.remote(name, *arguments))

    def stop_requested(self) -> StopRequest | None:
        """Return the request that the job's process has put into the mailbox."""
        ray: Any = import_module("ray")

        request: StopRequest | None = ray.get(self._mailbox.stop_request.remote())
        return request


class _NullObserver:
    """The other workers' observer: it drops everything."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments: None
