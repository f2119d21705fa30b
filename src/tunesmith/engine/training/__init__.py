"""Training: a specification in, a trained model and a result file out.

`train` imports torch when it is called, not before: set the process's environment
with `worker_environment` first, since OpenMP and malloc read it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.engine.training.environment import worker_environment
from tunesmith.engine.training.errors import TrainingError

if TYPE_CHECKING:
    from tunesmith.engine.training.spec import TrainingObserver, TrainingOutcome, TrainingSpec

__all__ = ["TrainingError", "train", "worker_environment"]


def train(spec: TrainingSpec, observer: TrainingObserver) -> TrainingOutcome:
    """Train as `spec` says, or go on where a killed training of the same spec stopped.

    Args:
        spec: What to train. Its `work_path` holds all that is needed to go on.
        observer: Told what happens, and asked between steps whether to stop.

    Raises:
        TrainingError: The training cannot go on; the message says why and what helps.
    """
    from tunesmith.engine.training.run import run  # noqa: PLC0415 - loads torch

    return run(spec, observer)
