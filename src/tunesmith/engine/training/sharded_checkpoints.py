"""Checkpoints of a sharded training: each process writes and reads its own part.

The parts are files of PyTorch's distributed checkpoints, which another number of processes can
read, too. All take part in every call. As with other checkpoints, a folder is complete or
absent, the last two are kept, and a damaged one is passed over for the one before.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from . import distributed
from .checkpoint import CheckpointFolder, Position, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

__all__ = ["ShardedCheckpoints"]


class ShardedCheckpoints:
    """Checkpoints of a training of which each process has a part.

    Args:
        path: Their folder, the same for all processes.
    """

    def __init__(self, path: Path) -> None:
        self._folder = CheckpointFolder(path)

    def save(self, position: Position, tensors: dict[str, torch.Tensor]) -> None:
        """Write a checkpoint, and remove all but the last two."""
        temporary = distributed.run_on_leader(lambda: self._folder.begin(position.step))
        try:
            save(tensors, checkpoint_id=temporary)
        except CheckpointException as error:
            raise _cause(error) from error
        own = {name: sha256(temporary / name) for name in distributed.shard(_files(temporary))}
        hashes = {name: value for part in distributed.gather(own) for name, value in part.items()}
        state = asdict(position) | {"files": hashes}
        distributed.run_on_leader(lambda: self._folder.publish(temporary, state))

    def latest(
        self, state: Callable[[], dict[str, torch.Tensor]]
    ) -> tuple[Position, Mapping[str, torch.Tensor]] | None:
        """Read the newest undamaged checkpoint into `state()`; return None if there never was one.

        Raises:
            TrainingError: There are checkpoints, and all are damaged.
        """
        folders = distributed.run_on_leader(self._folder.newest_first)
        for folder in folders:
            described = distributed.run_on_leader(partial(_read, folder))
            if described is None:
                continue
            position, hashes = described
            files = distributed.shard(sorted(hashes))
            is_whole = all(_has_hash(folder / name, hashes[name]) for name in files)
            if not all(distributed.gather(is_whole)):
                continue
            tensors = state()
            load(tensors, checkpoint_id=folder)
            return position, tensors
        if folders:
            raise self._folder.all_damaged()
        return None


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _read(folder: Path) -> tuple[Position, dict[str, str]] | None:
    """Return position and hashes of a checkpoint's files; None if they cannot be read."""
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        hashes: dict[str, str] = state.pop("files")
        return Position(**state), hashes
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _has_hash(path: Path, expected: str) -> bool:
    try:
        return sha256(path) == expected
    except OSError:
        return False


def _cause(error: CheckpointException) -> BaseException:
    """Return why a process could not write its part."""
    causes = [failure[0] for failure in error.failures.values()]
    return next((cause for cause in causes if isinstance(cause, OSError)), error)
