"""Training by Ray: the batches are shared by workers of a Ray cluster, or of this machine.

The job's own process does here what it does elsewhere: it holds the lease and writes the
rows. Instead of computing it drives a Ray `TorchTrainer`. Ray restarts workers that die and
keeps the checkpoints they go on from, also when this process is started again. What the first
worker observes travels to this process through a small actor and is waited for, so no
checkpoint is older than the rows that belong to it.

The state folder must lie at the same place for all workers: on this machine, or on a file
system that the cluster's machines share.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.engine.domain.errors import EngineError, TrainingError
from tunesmith.engine.training.checkpoint import FolderCheckpoints
from tunesmith.engine.training.run import run
from tunesmith.engine.training.spec import TrainingOutcome, TrainingSpec

if TYPE_CHECKING:
    import torch

    from tunesmith.engine.config import RayConfig
    from tunesmith.engine.training.checkpoint import Position
    from tunesmith.engine.training.spec import StopRequest, TrainingObserver

__all__ = ["train_on_ray"]

_Told: TypeAlias = "tuple[str, tuple[Any, ...]]"

_PAUSE_SECONDS = 0.2
_PATIENCE_SECONDS = 24 * 3600  # the leader may prepare for hours while the others wait
_RAY_CHECKPOINTS = 2


def train_on_ray(
    spec: TrainingSpec, observer: TrainingObserver, settings: RayConfig
) -> TrainingOutcome:
    """Train as `tunesmith.engine.training.train` does, by several workers of Ray.

    Raises:
        TrainingError: The training cannot go on.
        EngineError: Ray could not do it.
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
    signal.signal(signal.SIGTERM, handler)  # Ray has put its own in its place
    try:
        mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
        fitting = _Fitting(spec, settings, mailbox)
        fitting.start()
        told: list[_Told] = []
        while fitting.is_alive():
            told = ray.get(mailbox.collect.remote(len(told), observer.stop_requested()))
            for name, arguments in told:
                if name == "outcome":
                    (fitting.outcome,) = arguments
                elif name == "failed":
                    raise arguments[0]
                else:
                    getattr(observer, name)(*arguments)
        if fitting.outcome is None:
            raise EngineError(f"Ray gave the training up: {fitting.error}") from fitting.error
        return fitting.outcome
    finally:
        ray.shutdown()


class _Fitting(threading.Thread):
    """Waits for Ray while the main thread listens to the workers."""

    def __init__(self, spec: TrainingSpec, settings: RayConfig, mailbox: Any) -> None:
        super().__init__(name="ray", daemon=True)
        self.outcome: TrainingOutcome | None = None
        self.error: Exception | None = None
        self._trainer = _trainer(spec, settings, mailbox)

    def run(self) -> None:
        """Fit."""
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self.error = error


def _trainer(spec: TrainingSpec, settings: RayConfig, mailbox: Any) -> Any:
    ray: Any = import_module("ray")
    train: Any = import_module("ray.train")
    ray_torch: Any = import_module("ray.train.torch")

    threads = spec.threads or 1
    on_gpus = ray.cluster_resources().get("GPU", 0) >= settings.workers
    return ray_torch.TorchTrainer(
        _take_part,
        train_loop_config={"spec": spec.model_dump_json(), "mailbox": mailbox},
        scaling_config=train.ScalingConfig(
            num_workers=settings.workers,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": threads, **({"GPU": 1} if on_gpus else {})},
        ),
        torch_config=ray_torch.TorchConfig(
            backend="cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout_s=_PATIENCE_SECONDS
        ),
        run_config=train.RunConfig(
            name=spec.job_id,  # with the same name and place, Ray goes on from its checkpoint
            storage_path=str(spec.work_path / "ray"),
            checkpoint_config=train.CheckpointConfig(num_to_keep=_RAY_CHECKPOINTS),
            failure_config=train.FailureConfig(max_failures=settings.max_failures),
        ),
    )


def _take_part(given: dict[str, Any]) -> None:
    """Be one of Ray's workers."""
    ray: Any = import_module("ray")
    train: Any = import_module("ray.train")

    mailbox = given["mailbox"]
    leads = train.get_context().get_world_rank() == 0
    observer: Any = _ForwardingObserver(mailbox) if leads else _NullObserver()
    try:
        spec = TrainingSpec.model_validate_json(given["spec"])
        outcome = run(spec, observer, _RayCheckpoints())
    except TrainingError as error:
        ray.get(mailbox.tell.remote("failed", error))
        raise
    if leads:
        ray.get(mailbox.tell.remote("outcome", outcome))


class _Mailbox:
    """An actor between the first worker, which tells, and the job's process, which listens."""

    def __init__(self) -> None:
        self._told: list[_Told] = []
        self._dealt_with = 0
        self._request: StopRequest | None = None
        self._changed = asyncio.Condition()

    async def tell(self, name: str, *arguments: Any) -> None:
        """Hand something over and wait until it has been dealt with."""
        async with self._changed:
            self._told.append((name, arguments))
            number = self._dealt_with + len(self._told)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._dealt_with >= number)

    async def collect(self, dealt_with: int, request: StopRequest | None) -> list[_Told]:
        """Return what has been told, after a while even if it is nothing.

        Args:
            dealt_with: How much of what was returned last has been dealt with: all.
            request: What the workers are to be told when they ask.
        """
        async with self._changed:
            self._request = request
            self._told = self._told[dealt_with:]
            self._dealt_with += dealt_with
            self._changed.notify_all()
            waiting = self._changed.wait_for(lambda: bool(self._told))
            try:
                await asyncio.wait_for(waiting, _PAUSE_SECONDS)
            except TimeoutError:
                return []
            return list(self._told)

    async def request(self) -> StopRequest | None:
        """Return what is asked of the training."""
        return self._request


class _ForwardingObserver:
    """The first worker's observer: all that it hears it tells the job's process."""

    def __init__(self, mailbox: Any) -> None:
        self._board = mailbox

    def __getattr__(self, name: str) -> Any:
        ray: Any = import_module("ray")

        return lambda *arguments: ray.get(self._board.tell.remote(name, *arguments))

    def stop_requested(self) -> StopRequest | None:
        """Ask what is asked for."""
        ray: Any = import_module("ray")

        request: StopRequest | None = ray.get(self._board.request.remote())
        return request


class _NullObserver:
    """The other workers' observer."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments: None


class _RayCheckpoints:
    """Checkpoints that Ray keeps."""

    def save(self, position: Position, tensors: dict[str, torch.Tensor]) -> None:
        """Hand a checkpoint to Ray, from the leader; all workers take part."""
        train: Any = import_module("ray.train")

        with tempfile.TemporaryDirectory() as folder:
            FolderCheckpoints(Path(folder)).save(position, tensors)
            leads = train.get_context().get_world_rank() == 0
            kept = train.Checkpoint.from_directory(folder) if leads else None
            train.report({"step": position.step}, checkpoint=kept)

    def latest(self) -> tuple[Position, dict[str, torch.Tensor]] | None:
        """Return the checkpoint that Ray has kept last."""
        train: Any = import_module("ray.train")

        kept = train.get_checkpoint()
        if kept is None:
            return None
        with kept.as_directory() as folder:
            return FolderCheckpoints(Path(folder)).latest()
