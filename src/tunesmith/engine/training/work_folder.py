"""The files of one training besides its checkpoints: where they are and how they are written.

Everything appears under its final name only when it is complete, so a training that was
killed finds whole files or none.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import publish_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tunesmith.types.job_parameters import Recipe

    from .memory_plan import OptimizerName

__all__ = [
    "SNAPSHOT_EPOCHS",
    "Summary",
    "WorkFolder",
    "read_summary",
    "write_folder",
    "write_summary",
]

SNAPSHOT_EPOCHS = 3
"""After each of the last epochs a snapshot of the model is kept, which can be served."""

_SUMMARY = "training.json"
# The version before used these names. A training that it began continues with its files.
_FORMER_NAMES = {
    "settled.json": "choices.json",
    "trunk-train.bin": "frozen-layers-train.bin",
    "trunk-validation.bin": "frozen-layers-validation.bin",
}


class WorkFolder:
    """The work folder of one training.

    Attributes:
        path: The folder.
        checkpoints: Folder of the checkpoints for resuming.
        results: The result file, CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints: Path = path / "checkpoints"
        self.results: Path = path / "results.csv"
        self._choices = path / "choices.json"
        self._limit = path / "limit.json"

    def prepare(self) -> None:
        """Create the folder, or rename the files that the version before left in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        for former, name in _FORMER_NAMES.items():
            if (self.path / former).exists():
                (self.path / former).replace(self.path / name)

    def frozen_layer_cache(self, name: str) -> Path:
        """Return the file of cached frozen layers for the examples "train" or "validation"."""
        return self.path / f"frozen-layers-{name}.bin"

    def reference(self, name: str) -> Path:
        """Return the file of reference log probabilities for "train" or "validation"."""
        return self.path / f"reference-{name}.npy"

    def snapshot(self, step: int) -> Path:
        """Return the folder of the model as it was after `step`."""
        return self.path / "snapshots" / f"step-{step}"

    def best(self, step: int) -> Path:
        """Return the folder of the model with the lowest validation loss, as it was at `step`."""
        return self.path / "best" / f"step-{step}"

    def keep_only_best(self, step: int) -> None:
        """Remove what was the best model before that of `step`."""
        for folder in (self.path / "best").iterdir():
            if folder != self.best(step):
                shutil.rmtree(folder, ignore_errors=True)

    def read_choices(self) -> dict[str, Any]:
        """Return what `freeze_choices` wrote; empty if nothing was chosen yet."""
        try:
            choices: dict[str, Any] = json.loads(self._choices.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return choices

    def freeze_choices(self, recipe: Recipe, threads: int, optimizer: OptimizerName) -> None:
        """Keep what the first start chose, unless that is kept already.

        A resumed training must not choose anew: another recipe would not fit its
        checkpoint, nor would another optimizer's state, and with other threads sums round
        differently.
        """
        if not self._choices.exists():
            _write(self._choices, {"recipe": recipe, "threads": threads, "optimizer": optimizer})

    def keep_limit(self, tokens: int, recomputed_layers: int) -> None:
        """Keep what a training that several processes share has come down to, for all of them."""
        _write(self._limit, {"tokens": tokens, "recomputed_layers": recomputed_layers})

    def read_limit(self) -> tuple[int | None, int]:
        """Return what `keep_limit` kept: tokens, or None if it was never called, and layers."""
        try:
            kept: dict[str, int] = json.loads(self._limit.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None, 0
        return kept["tokens"], kept["recomputed_layers"]


def _write(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values) + "\n", encoding="utf-8")
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Summary:
    """What `training.json` in a trained model's folder says of its training.

    Attributes:
        base_model: What was trained.
        recipe: How.
        steps: Steps of the training.
        trained_tokens: Tokens seen, repeats included.
        best_step: The step whose model this is, where the best epoch's was kept; 0 for the last.
    """

    base_model: str
    recipe: Recipe
    steps: int
    trained_tokens: int
    best_step: int = 0


def write_summary(folder: Path, summary: Summary) -> None:
    """Write a summary into a model's folder."""
    text = json.dumps(asdict(summary), indent=2) + "\n"
    (folder / _SUMMARY).write_text(text, encoding="utf-8")


def read_summary(folder: Path) -> Summary | None:
    """Return the summary in a model's folder; None if there is no model yet."""
    try:
        text = (folder / _SUMMARY).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Summary(**json.loads(text))


def write_folder(folder: Path, save: Callable[[Path], None]) -> None:
    """Create `folder` with what `save` writes, complete or not at all; keep it if it exists."""
    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save(temporary)
        publish_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
