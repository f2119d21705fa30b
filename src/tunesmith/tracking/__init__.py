"""Fine-tunes as runs of an experiment tracker: Weights & Biases, MLflow or trackio.

    from tunesmith.tracking import open_tracker, sync

    with Client() as client, open_tracker("wandb", project="reviews") as tracker:
        for outcome in sync(client, tracker):
            print(outcome)

`read_facts` reads a job, in the same form for all trackers; an adapter for each tracker
writes it. Each adapter needs its own extra.
"""

from __future__ import annotations

from .job_facts import DataFile, JobFacts, find_jobs, read_facts
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
