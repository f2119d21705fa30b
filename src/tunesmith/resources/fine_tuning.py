"""Fine-tuning: the namespace of the second API."""

from __future__ import annotations

from functools import cached_property

from .declare import ClientT_co, Resource
from .fine_tuning_jobs import FineTuningJobs

__all__ = ["FineTuning"]


class FineTuning(Resource[ClientT_co]):
    """`client.fine_tuning`."""

    @cached_property
    def jobs(self) -> FineTuningJobs[ClientT_co]:
        """Fine-tuning jobs."""
        return FineTuningJobs(self._client)
