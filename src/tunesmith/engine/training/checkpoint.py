"""Checkpoints from which a killed training resumes as if nothing had happened.

A checkpoint is one folder, written under another name and renamed, so it is complete or
absent. The last two are kept: if the newest is damaged on the disk, its hash shows it, and
the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.atomic import publish_folder
from tunesmith.engine.domain.errors import TrainingError

from .distributed import is_leader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from .optimizer import Optimizer
    from .sharding import ShardedOptimizer

__all__ = [
    "CheckpointFolder",
    "Checkpointer",
    "Checkpoints",
    "FolderCheckpoints",
    "Position",
    "sha256",
]

_NAME = re.compile(r"step-(\d+)")
_KEPT = 2
# Saving may take this share of the time at most, unless every step is to be saved.
_SAVING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Position:
    """How far a training has come. The names of the fields are those in `state.json`.

    Attributes:
        step: Steps done.
        elapsed_tokens: Tokens seen, repeats included.
        elapsed_examples: Examples seen, repeats included.
        results_length: Bytes of the result file up to this step.
        max_tokens: Most tokens that went through the layers at a time; None if that is not known.
        recomputed_layers: Layers whose activations were computed again.
        best_step: The last step of the epoch with the lowest validation loss; 0 if there is none.
        best_epoch: That epoch.
        best_loss: That loss.
    """

    step: int = 0
    elapsed_tokens: int = 0
    elapsed_examples: int = 0
    results_length: int = 0
    max_tokens: int | None = None
    recomputed_layers: int = 0
    best_step: int = 0
    best_epoch: int = 0
    best_loss: float | None = None


class Checkpoints(Protocol):
    """Where a training keeps its checkpoints."""

    def save(self, position: Position, tensors: dict[str, torch.Tensor]) -> None:
        """Keep a checkpoint. Every process of a training calls it."""

    def latest(
        self, state: Callable[[], dict[str, torch.Tensor]]
    ) -> tuple[Position, Mapping[str, torch.Tensor]] | None:
        """Return the newest checkpoint; None if there never was one. Every process calls it.

        Args:
            state: Returns tensors such as `save` gets, which may be read into.
        """
        ...


class CheckpointFolder:
    """A folder with the checkpoints of one training, each a folder that is complete or absent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def begin(self, step: int) -> Path:
        """Return an empty folder to write the checkpoint of a step to."""
        temporary = self._path / f".step-{step}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        return temporary

    def publish(self, temporary: Path, state: dict[str, Any]) -> None:
        """Add `state` to what was written, make it a checkpoint; remove all but the last two."""
        (temporary / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
        target = self._path / f"step-{state['step']}"
        shutil.rmtree(target, ignore_errors=True)
        publish_folder(temporary, target)
        for old in self.newest_first()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def newest_first(self) -> list[Path]:
        """Return the checkpoints."""
        steps = [
            (int(match[1]), path)
            for path in self._path.iterdir()
            if (match := _NAME.fullmatch(path.name))
        ]
        return [path for _, path in sorted(steps, reverse=True)]

    def all_damaged(self) -> TrainingError:
        """Return the error for checkpoints of which none can be used."""
        msg = (
            f"The training cannot resume: every checkpoint in {self._path} is damaged, "
            "its contents differ from what was written. Check the disk, then create the job "
            "again."
        )
        return TrainingError(msg, "corrupt_checkpoint")


class FolderCheckpoints:
    """Checkpoints of a training of which each process has everything."""

    def __init__(self, path: Path) -> None:
        self._folder = CheckpointFolder(path)

    def save(self, position: Position, tensors: dict[str, torch.Tensor]) -> None:
        """Write a checkpoint in the leading process, and remove all but the last two."""
        if not is_leader():
            return
        temporary = self._folder.begin(position.step)
        save_file(tensors, temporary / "state.safetensors")
        state = asdict(position) | {"sha256": sha256(temporary / "state.safetensors")}
        self._folder.publish(temporary, state)

    def latest(
        self,
        state: Callable[[], dict[str, torch.Tensor]],  # noqa: ARG002 - of the protocol
    ) -> tuple[Position, Mapping[str, torch.Tensor]] | None:
        """Return the newest undamaged checkpoint; None if there never was one.

        Raises:
            TrainingError: There are checkpoints, and all are damaged.
        """
        folders = self._folder.newest_first()
        for folder in folders:
            checkpoint = _load(folder)
            if checkpoint is not None:
                return checkpoint
        if folders:
            raise self._folder.all_damaged()
        return None


class Checkpointer:
    """Saves and restores what a training changes: parameters and optimizer state.

    Args:
        checkpoints: Where.
        optimizer: Holds both.
        every_seconds: Least time between two checkpoints; 0 makes every step due.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        optimizer: Optimizer | ShardedOptimizer,
        every_seconds: float,
    ) -> None:
        self._checkpoints = checkpoints
        self._optimizer = optimizer
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def restore(self) -> Position:
        """Load the newest checkpoint, if there is one, and return how far it had come."""
        latest = self._checkpoints.latest(self._optimizer.state)
        if latest is None:
            return Position()
        position, state = latest
        self._optimizer.load_state(state)
        return position

    def is_due(self) -> bool:
        """Return whether it is time for another checkpoint."""
        wait = 0.0
        if self._every_seconds:
            wait = max(self._every_seconds, self._save_seconds / _SAVING_SHARE)
        return time.monotonic() - self._saved_at >= wait

    def save(self, position: Position) -> None:
        """Save a checkpoint."""
        started = time.monotonic()
        self._checkpoints.save(position, self._optimizer.state())
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started


def _load(folder: Path) -> tuple[Position, dict[str, torch.Tensor]] | None:
    """Return the checkpoint in `folder`; None if it is damaged."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state.pop("sha256") != sha256(folder / "state.safetensors"):
            return None
        return Position(**state), load_file(folder / "state.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def sha256(path: Path) -> str:
    """Return the hash of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
