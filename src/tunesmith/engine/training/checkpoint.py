"""What a killed training needs to go on as if nothing had happened.

A checkpoint is one folder, written under another name and renamed, so it is whole
or absent. The last two are kept: should the newest be damaged on the disk, its hash
tells, and the one before it serves.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.engine.models.folders import publish_folder
from tunesmith.engine.training.distributed import leads
from tunesmith.engine.training.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["CheckpointStore", "Checkpoints", "Position"]

_NAME = re.compile(r"step-(\d+)")
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Position:
    """How far a training has come.

    Attributes:
        step: Steps done.
        elapsed_tokens: Tokens seen, repeats included.
        elapsed_examples: Examples seen, repeats included.
        results_length: Bytes of the result file up to this step.
    """

    step: int = 0
    elapsed_tokens: int = 0
    elapsed_examples: int = 0
    results_length: int = 0


class Checkpoints(Protocol):
    """Where a training keeps what it needs to go on."""

    def save(self, position: Position, tensors: dict[str, torch.Tensor]) -> None:
        """Keep a checkpoint. Every process of a training calls it."""

    def newest(self) -> tuple[Position, dict[str, torch.Tensor]] | None:
        """Return the newest checkpoint; None if there never was one."""


class CheckpointStore:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, position: Position, tensors: dict[str, torch.Tensor]) -> None:
        """Write a checkpoint, in the leading process; older ones than the last two go."""
        if not leads():
            return
        target = self._folder / f"step-{position.step}"
        gathered = self._folder / f".{target.name}.tmp"
        for leftover in (gathered, target):
            shutil.rmtree(leftover, ignore_errors=True)
        gathered.mkdir()
        save_file(tensors, gathered / "state.safetensors")
        state = asdict(position) | {"sha256": _sha256(gathered / "state.safetensors")}
        (gathered / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
        publish_folder(gathered, target)
        for old in self._found()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> tuple[Position, dict[str, torch.Tensor]] | None:
        """Return the newest checkpoint that is whole; None if there never was one.

        Raises:
            TrainingError: There are checkpoints, and all are damaged.
        """
        found = self._found()
        for folder in found:
            loaded = _load(folder)
            if loaded is not None:
                return loaded
        if found:
            msg = (
                f"The training cannot go on: every checkpoint in {self._folder} is damaged, "
                "its contents differ from what was written. Check the disk, then start the job "
                "anew."
            )
            raise TrainingError(msg, "corrupt_checkpoint")
        return None

    def _found(self) -> list[Path]:
        named = [
            (int(match[1]), path)
            for path in self._folder.iterdir()
            if (match := _NAME.fullmatch(path.name))
        ]
        return [path for _, path in sorted(named, reverse=True)]


def _load(folder: Path) -> tuple[Position, dict[str, torch.Tensor]] | None:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state.pop("sha256") != _sha256(folder / "state.safetensors"):
            return None
        return Position(**state), load_file(folder / "state.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
