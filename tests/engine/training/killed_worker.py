"""Trains by the specification in argv[1] and kills itself, kill -9, after step argv[2]."""

from __future__ import annotations

import os
import signal
import sys

from tunesmith.engine.training import train
from tunesmith.engine.training.spec import TrainingSpec


class Observer:
    def planned(self, plan):
        pass

    def note(self, key, message):
        pass

    def step(self, record):
        if record.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    def epoch(self, record):
        pass

    def checkpoint(self, record):
        pass

    def stop_requested(self):
        return None


if __name__ == "__main__":
    train(TrainingSpec.model_validate_json(sys.argv[1]), Observer())
