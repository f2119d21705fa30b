"""The two job APIs, the ids that they give a job, and the statuses of a job."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = [
    "JOBS_API",
    "LEGACY_API",
    "STATUSES",
    "TERMINAL_STATUSES",
    "Api",
    "internal_id",
    "public_id",
]

Api: TypeAlias = Literal["fine-tunes", "fine-tuning"]
"""An API that jobs are created through, as the database stores it."""

LEGACY_API: Final = "fine-tunes"
"""`/v1/fine-tunes`."""

JOBS_API: Final = "fine-tuning"
"""`/v1/fine_tuning/jobs`."""

STATUSES = (
    "validating_files",
    "queued",
    "running",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
)
"""Every status of a job, with the names of the fine-tuning jobs API."""

TERMINAL_STATUSES = ("succeeded", "failed", "cancelled")
"""Statuses that a job never leaves."""

_PREFIXES: Final = {LEGACY_API: "ft-", JOBS_API: "ftjob-"}


def public_id(job_id: str, api: str = JOBS_API) -> str:
    """Return the id of a job in an API, such as "ftjob-abc"."""
    return f"{_PREFIXES[LEGACY_API if api == LEGACY_API else JOBS_API]}{job_id}"


def internal_id(identity: str) -> str:
    """Return the id without the prefix of either API, as the database stores it."""
    for prefix in _PREFIXES.values():
        if identity.startswith(prefix):
            return identity.removeprefix(prefix)
    return identity
