"""How far a job is, read from its own messages. Pure: no clock, no terminal.

Both APIs tell progress in prose: "Step 85/100: training loss=0.14" and "Completed
epoch 1/4". Whatever else they say is a message for the person who follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Progress", "is_step"]

STEP = re.compile(r"Step (\d+)/(\d+): training loss=(-?[\d.]+|nan|inf)")
EPOCH = re.compile(r"Completed epoch (\d+)/(\d+)")


def is_step(message: str) -> bool:
    """Whether a message tells of one training step."""
    return STEP.search(message) is not None


@dataclass(slots=True)
class Progress:
    """The state of a job's training.

    Attributes:
        done: Steps done, or epochs where the job only tells those.
        total: Of how many; 0 until the job has said so.
        unit: "step" or "epoch".
        loss: Training loss of the last step.
    """

    done: int = 0
    total: int = 0
    unit: str = "step"
    loss: float | None = None
    _first: tuple[int, int] | None = None
    _last: tuple[int, int] | None = None

    def observe(self, message: str, created_at: int) -> bool:
        """Take in one message; return True if it told of a step, which a bar shows well enough."""
        if step := STEP.search(message):
            self.done, self.total, self.unit = int(step[1]), int(step[2]), "step"
            self.loss = float(step[3])
            self._note(created_at)
            return True
        if (epoch := EPOCH.search(message)) and self.loss is None:
            self.done, self.total, self.unit = int(epoch[1]), int(epoch[2]), "epoch"
            self._note(created_at)
        return False

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.done / self.total if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time still needed at the pace so far; None until there is a pace."""
        if self._first is None or self._last is None:
            return None
        steps, seconds = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if steps <= 0 or seconds <= 0:
            return None
        return (self.total - self.done) * seconds / steps

    def _note(self, created_at: int) -> None:
        moment = (self.done, created_at)
        if self._first is None or self.done < self._first[0]:
            self._first = moment
        self._last = moment
