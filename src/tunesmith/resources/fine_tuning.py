"""`client.fine_tuning`: the namespace of the fine-tuning jobs API."""

from __future__ import annotations

from functools import cached_property

from tunesmith.core.modes import ModeT_co

from .checkpoints import Checkpoints
from .fine_tuning_jobs import FineTuningJobs
from .graders import Alpha
from .operations import Resource

__all__ = ["FineTuning"]


class FineTuning(Resource[ModeT_co]):
    """`client.fine_tuning`."""

    @cached_property
    def jobs(self) -> FineTuningJobs[ModeT_co]:
        """Fine-tuning jobs."""
        return FineTuningJobs(self._executor)

    @cached_property
    def checkpoints(self) -> Checkpoints[ModeT_co]:
        """Checkpoints and who may use them."""
        return Checkpoints(self._executor)

    @cached_property
    def alpha(self) -> Alpha[ModeT_co]:
        """Experimental operations: graders."""
        return Alpha(self._executor)
