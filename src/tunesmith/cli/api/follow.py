"""Follow a job of either fine-tuning API on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.cli.output import print_notice
from tunesmith.progress.views import open_view

if TYPE_CHECKING:
    from tunesmith.core.modes import Sync
    from tunesmith.resources.fine_tuning_jobs import FineTuningJobs
    from tunesmith.resources.legacy_fine_tunes import FineTunes

__all__ = ["INTERRUPTED", "JOB_UNSUCCESSFUL", "follow"]

JOB_UNSUCCESSFUL = 3
INTERRUPTED = 130


def follow(
    group: str, job_id: str, jobs: FineTunes[Sync] | FineTuningJobs[Sync], *, as_json: bool
) -> int:
    """Show a job's events until it ends, then its outcome.

    An interrupt leaves the job running and prints how to follow or cancel it.

    Args:
        group: The group of commands, "fine_tunes" or "fine_tuning.jobs".
        job_id: The job.
        jobs: The resource with the operations of its API.
        as_json: Print one JSON object per line instead.

    Returns:
        0 if the job succeeded, 3 if it did not, 130 after an interrupt.
    """
    try:
        if as_json:
            for event in jobs.events(job_id):
                print(event.to_json(indent=None), flush=True)
            job: Any = jobs.retrieve(job_id)
            print(job.to_json(indent=None))
        else:
            job = jobs.follow(job_id, view=open_view())
            _print_outcome(group, job)
    except KeyboardInterrupt:
        status = jobs.retrieve(job_id).status
        print_notice(
            f"\nStream interrupted. The job is still {status} and continues on the server.\n"
            f"To follow it again:  tunesmith api {group}.follow -i {job_id}\n"
            f"To cancel it:        tunesmith api {group}.cancel -i {job_id}"
        )
        return INTERRUPTED
    return 0 if job.status == "succeeded" else JOB_UNSUCCESSFUL


def _print_outcome(group: str, job: Any) -> None:
    if job.status == "succeeded":
        print(f"\nJob {job.id} succeeded. The model is {job.fine_tuned_model}\n")
        print(
            "Try it:       tunesmith api completions.create -m", job.fine_tuned_model, "-p PROMPT"
        )
        print(f"Its results:  tunesmith api {group}.results -i {job.id}")
        return
    error = getattr(job, "error", None)
    reason = f": {error.message}" if error is not None and error.message else "."
    print(f"\nJob {job.id} {job.status}{reason}")
