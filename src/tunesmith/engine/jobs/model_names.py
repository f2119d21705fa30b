"""The names of fine-tuned models, in the forms of the two APIs.

First API:  `ada:ft-<organisation>:<suffix>-2026-02-15-04-21-04`
Second API: `ft:<model>:<organisation>:<suffix>:<id>`, a checkpoint adds `:ckpt-step-<n>`.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.engine.store.records import JobRow

__all__ = ["checkpoint_name", "family_of", "final_name", "slug"]

_NOT_PLAIN = re.compile(r"[^a-z0-9_.]+")
_SHORT_ID = 8


def slug(suffix: str | None) -> str:
    """Return a suffix as it stands in a model's name: lower case, hyphens for all else."""
    return _NOT_PLAIN.sub("-", (suffix or "").lower()).strip("-")


def family_of(name: str) -> str:
    """Return the base name that stands in the name of a fine-tuned model, or the name itself."""
    if name.startswith("ft:"):
        return name.split(":")[1]
    return name.split(":ft-", maxsplit=1)[0]


def final_name(job: JobRow, now: float, is_taken: Callable[[str], bool]) -> str:
    """Return the name of the job's model.

    Names of the first API end in the second of their making; the next free second is
    taken where two jobs would share one.
    """
    if job.api == "fine-tuning":
        return _second_form(job)
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
    return f"{_second_form(job)}:ckpt-step-{step}"


def _second_form(job: JobRow) -> str:
    return f"ft:{job.family}:{job.organization}:{slug(job.suffix)}:{job.id[:_SHORT_ID]}"
