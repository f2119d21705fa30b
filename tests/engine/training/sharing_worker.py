"""Processes that train together, in 32 bits, forked by one that has loaded the libraries.

Reads groups from its standard input, and writes the exit statuses of each group's processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed.checkpoint  # loaded here once, not in every fork
import torch.distributed.fsdp
from torch import distributed

from tunesmith.engine.training import preparation
from tunesmith.engine.training.run import run
from tunesmith.engine.training.spec import TrainingSpec


class Observer:
    """Keeps what the leader reports; dies at a step, or stops after one, if it is to."""

    def __init__(self, dies_at: int | None, stops_after: int | None) -> None:
        self.dies_at, self.stops_after = dies_at, stops_after
        self.records = {"start": None, "losses": [], "validation": [], "extra": []}

    def planned(self, plan):
        self.records["start"] = plan.start_step

    def step(self, record):
        self.records["losses"].append(record.training_loss)
        self.records["extra"].append(record.extra)
        if record.validation is not None:
            self.records["validation"].append(record.validation.loss)
        if record.step == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, key, message):
        pass

    def epoch(self, record):
        pass

    def checkpoint(self, record):
        pass

    def stop_requested(self):
        return "pause" if len(self.records["losses"]) == self.stops_after else None


def work(group: dict, rank: int) -> list[dict]:
    """Train by a group's jobs as one of its processes; return what each was records."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{group['meeting']}",
        rank=rank,
        world_size=group["count"],
        timeout=timedelta(seconds=60),
    )
    records = []
    for spec in group["specs"]:
        observer = Observer(group["dies_at"] if rank == 1 else None, group["stops_after"])
        run(TrainingSpec.model_validate(spec), observer)
        records.append(observer.records)
    distributed.destroy_process_group()
    return records


def fork(group: dict, rank: int) -> int:
    """Start a process of a group; return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with Path(f"{group['meeting']}-{rank}.log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        records = work(group, rank)
        Path(f"{group['meeting']}-{rank}.json").write_text(json.dumps(records), encoding="utf-8")
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may return to the loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """For each group, a line of JSON: fork its processes, and print how they ended."""
    preparation.best_dtype = lambda _device: torch.float32
    for line in sys.stdin:
        group = json.loads(line)
        pids = [fork(group, rank) for rank in range(group["count"])]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        sys.stdout.write(json.dumps(statuses) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
