"""The names of fine-tuned models, in the forms of the two APIs.

Legacy API:           `ada:ft-<organisation>:<suffix>-2026-02-15-04-21-04`
Fine-tuning jobs API: `ft:<model>:<organisation>:<suffix>:<id>`; checkpoints add
                      `:ckpt-step-<n>`.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.engine.store.records import JobRow

__all__ = ["checkpoint_name", "export_name", "final_name", "slug"]

_OTHER_CHARACTERS = re.compile(r"[^a-z0-9_.]+")
_SHORT_ID = 8
_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_FILE_NAME = 120


def slug(suffix: str | None) -> str:
    """Return a suffix in the form used in names: lower case, with hyphens for other characters."""
    return _OTHER_CHARACTERS.sub("-", (suffix or "").lower()).strip("-")


def final_name(job: JobRow, now: float, is_taken: Callable[[str], bool]) -> str:
    """Return the name of the job's model.

    Names of the legacy API end in the time at which the model was made, in seconds; if the
    name is taken, the next free second is used.

    Args:
        job: The job.
        now: The time, in seconds since the epoch.
        is_taken: Returns whether a model has this name.
    """
    if job.api == "fine-tuning":
        return _jobs_api_name(job)
    while True:
        moment = dt.datetime.fromtimestamp(now, tz=dt.UTC)
        stamp = moment.strftime("%Y-%m-%d-%H-%M-%S")
        tail = "-".join(part for part in (slug(job.suffix), stamp) if part)
        name = f"{job.family}:ft-{job.organization}:{tail}"
        if not is_taken(name):
            return name
        now += 1


def checkpoint_name(job: JobRow, step: int) -> str:
    """Return the name of the model as it was after `step`."""
    return f"{_jobs_api_name(job)}:ckpt-step-{step}"


def _jobs_api_name(job: JobRow) -> str:
    return f"ft:{job.family}:{job.organization}:{slug(job.suffix)}:{job.id[:_SHORT_ID]}"


def export_name(model: str, export_format: str) -> str:
    """Return the name of the folder that a model is exported to."""
    name = _NO_FILE_NAME.sub("-", model)[:_LONGEST_FILE_NAME].strip("-.")
    return f"{name}-{export_format}"
