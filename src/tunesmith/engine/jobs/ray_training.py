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
import os
import signal
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.engine.domain.errors import EngineError, TrainingError
from tunesmith.engine.training.run import run
from tunesmith.engine.training.spec import TrainingOutcome, TrainingSpec

if TYPE_CHECKING:
    from tunesmith.engine.config import RayConfig
    from tunesmith.engine.training.spec import StopRequest, TrainingObserver

__all__ = ["train_on_ray"]

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
    ray: Any = import_module("ray")

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=settings.address,
        include_dashboard=False,
        log_to_driver=False,
        num_cpus=None if settings.address else max(os.cpu_count() or 1, settings.workers),
    )
    signal.signal(signal.SIGTERM, handler)  # Ray has replaced it
    try:
        mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
        fit = _FitThread(spec, settings, mailbox)
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
                else:
                    getattr(observer, name)(*arguments)
        if fit.outcome is None:
            raise EngineError(f"Ray stopped the training: {fit.error}") from fit.error
        return fit.outcome
    finally:
        ray.shutdown()


class _FitThread(threading.Thread):
    """Waits for Ray while the main thread receives the workers' messages."""

    def __init__(self, spec: TrainingSpec, settings: RayConfig, mailbox: Any) -> None:
        super().__init__(name="ray", daemon=True)
        self.outcome: TrainingOutcome | None = None
        self.error: Exception | None = None
        self._trainer = _trainer(spec, settings, mailbox)

    def run(self) -> None:
        """Run the trainer to its end."""
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self.error = error


def _trainer(spec: TrainingSpec, settings: RayConfig, mailbox: Any) -> Any:
    ray: Any = import_module("ray")
    train: Any = import_module("ray.train")
    ray_torch: Any = import_module("ray.train.torch")

    threads = spec.threads or 1
    use_gpu = ray.cluster_resources().get("GPU", 0) >= settings.workers
    return ray_torch.TorchTrainer(
        _train_worker,
        train_loop_config={"spec": spec.model_dump_json(), "mailbox": mailbox},
        scaling_config=train.ScalingConfig(
            num_workers=settings.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": threads, **({"GPU": 1} if use_gpu else {})},
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


def _train_worker(config: dict[str, Any]) -> None:
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
