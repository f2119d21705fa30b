"""Fine-tunes as runs of an experiment tracker: Weights & Biases, MLflow or trackio.

    from tunesmith.tracking import open_tracker, sync

    with Client() as client, open_tracker("wandb", project="reviews") as tracker:
        for outcome in sync(client, tracker):
            print(outcome)

`read_facts` reads a job once for all of them; an adapter writes it. Each needs its own extra.
"""

from __future__ import annotations

from .facts import DataFile, JobFacts, find_jobs, read_facts
from .sync import Outcome, Tracker, open_tracker, sync

__all__ = [
    "DataFile",
    "JobFacts",
    "Outcome",
    "Tracker",
    "find_jobs",
    "open_tracker",
    "read_facts",
    "sync",
]
