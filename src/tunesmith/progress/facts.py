"""How far a job is, read from the job and its own messages. Pure: no clock, no terminal.

Both APIs tell progress in prose: "Step 85/100: training loss=0.14" and "Completed
epoch 1/4". Whatever else they say is a message for the person who follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .text import duration

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
        status: The job's status when it was last looked at; empty before.
        done: Steps done, or epochs where the job only tells those.
        total: Of how many; 0 until the job has said so.
        unit: "step" or "epoch".
        loss: Training loss of the last step.
        estimated_finish: Unix time in seconds, where the server gives one.
    """

    status: str = ""
    done: int = 0
    total: int = 0
    unit: str = "step"
    loss: float | None = None
    estimated_finish: float | None = None
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
    def headline(self) -> str:
        """Where the job stands: "step 85/100", or its status before the first step."""
        return f"{self.unit} {self.done}/{self.total}" if self.total else self.status or "waiting"

    def detail(self, now: float) -> str:
        """Return "loss 0.14  1:10 left", as much of it as is known.

        Args:
            now: Unix time in seconds.
        """
        left = self.seconds_left(now)
        parts = [
            "" if self.loss is None else f"loss {self.loss:.2f}",
            "" if left is None else f"{duration(left)} left",
        ]
        return "  ".join(part for part in parts if part)

    def seconds_left(self, now: float) -> float | None:
        """Return the time still needed: the server's estimate, else by the pace so far.

        None before the first step, after the last, and while there is no pace.

        Args:
            now: Unix time in seconds.
        """
        if self.done >= self.total:
            return None
        if self.estimated_finish is not None:
            return max(0.0, self.estimated_finish - now)
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
