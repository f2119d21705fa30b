"""`client.fine_tuning`: the namespace of the fine-tuning jobs API."""

from __future__ import annotations

from functools import cached_property

from .checkpoints import Checkpoints
from .fine_tuning_jobs import FineTuningJobs
from .graders import Alpha
from .operations import ClientT_co, Resource

__all__ = ["FineTuning"]


class FineTuning(Resource[ClientT_co]):
    """`client.fine_tuning`."""

    @cached_property
    def jobs(self) -> FineTuningJobs[ClientT_co]:
        """Fine-tuning jobs."""
        return FineTuningJobs(self._client)

    @cached_property
    def checkpoints(self) -> Checkpoints[ClientT_co]:
        """Checkpoints and who may use them."""
        return Checkpoints(self._client)

    @cached_property
    def alpha(self) -> Alpha[ClientT_co]:
        """What is still being tried: graders."""
        return Alpha(self._client)
