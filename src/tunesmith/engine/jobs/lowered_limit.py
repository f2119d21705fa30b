"""What the processes of a shared training say when memory did not suffice for one of them.

It travels from such a process to the job's own, which keeps it for all and starts them again.
Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.engine.training.work_folder import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.engine.training.memory_limit import LoweredLimitError
    from tunesmith.engine.training.spec import TrainingObserver, TrainingOutcome, TrainingSpec

__all__ = ["LoweredLimit", "lowered", "run_with_less"]


@dataclass(frozen=True, slots=True)
class LoweredLimit:
    """How much goes through the layers at a time from now on.

    Attributes:
        message: A sentence on it.
        tokens: Most tokens.
        recomputed_layers: Layers whose activations are computed again.
    """

    message: str
    tokens: int
    recomputed_layers: int

    def keep(self, spec: TrainingSpec, observer: TrainingObserver) -> None:
        """Keep it for all processes that are started from now on, and report it."""
        WorkFolder(spec.work_path).keep_limit(self.tokens, self.recomputed_layers)
        key = f"memory-of-one-{self.tokens}-{self.recomputed_layers}"
        observer.note(key, f"{self.message} All processes start again from the last checkpoint.")


def lowered(error: LoweredLimitError) -> LoweredLimit:
    """Return what an error says, as plain data."""
    return LoweredLimit(str(error), error.tokens, error.recomputed_layers)


def run_with_less(
    run: Callable[[], TrainingOutcome | LoweredLimit],
    spec: TrainingSpec,
    observer: TrainingObserver,
) -> TrainingOutcome:
    """Run a shared training, again with less at a time whenever memory did not suffice."""
    while isinstance(ended := run(), LoweredLimit):
        ended.keep(spec, observer)
    return ended
