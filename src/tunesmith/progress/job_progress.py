"""A job's progress, parsed from the messages of its events. Pure: no clock, no terminal.

Both APIs report progress as text: "Step 85/100: training loss=0.14" and "Completed epoch 1/4".
Any other message is for the user to read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .text import duration

__all__ = ["Progress", "is_step"]

STEP = re.compile(r"Step (\d+)/(\d+): training loss=(-?[\d.]+|nan|inf)")
EPOCH = re.compile(r"Completed epoch (\d+)/(\d+)")


def is_step(message: str) -> bool:
    """Whether a message reports a training step."""
    return STEP.search(message) is not None


@dataclass(slots=True)
class Progress:
    """The state of a job's training.

    Attributes:
        status: The job's status at the last poll; empty before the first.
        done: Steps done, or epochs where the job only reports those.
        total: Steps or epochs in total; 0 until known.
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
        """Parse one message; return True if it reports a step, which the bar already shows."""
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
        """The progress as "step 85/100", or the status before the first step."""
        return f"{self.unit} {self.done}/{self.total}" if self.total else self.status or "waiting"

    def detail(self, now: float) -> str:
        """Return "loss 0.14  1:10 left", the parts that are known.

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
        """Return the remaining time: the server's estimate, or extrapolated from the steps so far.

        None before the first step, after the last, and without two steps to extrapolate from.

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
