"""Training: a specification in, a trained model and a result file out.

Knows no database and no HTTP. `train` imports torch when it is called, not before: set the
process's environment with `worker_environment` first, because OpenMP and malloc read it
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.engine.domain.errors import TrainingError

from .environment import worker_environment

if TYPE_CHECKING:
    from .spec import TrainingObserver, TrainingOutcome, TrainingSpec

__all__ = ["TrainingError", "train", "worker_environment"]


def train(spec: TrainingSpec, observer: TrainingObserver) -> TrainingOutcome:
    """Train as `spec` says, or resume a training of the same spec that was killed.

    Args:
        spec: What to train. Its `work_path` holds all that is needed to resume.
        observer: Receives what happens, and is asked between steps whether to stop.

    Raises:
        TrainingError: The training cannot continue; the message says why and what to do.
    """
    from .run import run  # noqa: PLC0415 - loads torch

    return run(spec, observer)
