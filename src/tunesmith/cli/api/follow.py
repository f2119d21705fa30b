"""Following a job on the command line, the same for both APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.cli.live import job_view
from tunesmith.cli.output import say
from tunesmith.cli.progress import is_step
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tunesmith.cli.live import StepSource
    from tunesmith.client import Client

__all__ = ["INTERRUPTED", "JOB_UNSUCCESSFUL", "follow", "newest_step"]

JOB_UNSUCCESSFUL = 3
INTERRUPTED = 130


def follow(
    group: str,
    job_id: str,
    events: Iterable[Any],
    retrieve: Callable[[str], Any],
    *,
    as_json: bool,
    steps: StepSource | None = None,
) -> int:
    """Show a job's events until it ends, then how it ended.

    Interrupting leaves the job running and says how to go on.

    Args:
        group: The commands' group, "fine_tunes" or "fine_tuning.jobs".
        job_id: The job.
        events: Its events, oldest first, ending when the job does.
        retrieve: Reads the job.
        as_json: Print one JSON object a line instead.
        steps: Where a live view may ask for the newest step, if `events` does not tell it.

    Returns:
        0 if the job succeeded, 3 if it did not, 130 if the person interrupted.
    """
    try:
        _show(events, as_json=as_json, steps=steps)
    except KeyboardInterrupt:
        status = retrieve(job_id).status
        say(
            f"\nStream interrupted. The job is still {status} and goes on by itself.\n"
            f"To follow it again:  tunesmith api {group}.follow -i {job_id}\n"
            f"To cancel it:        tunesmith api {group}.cancel -i {job_id}"
        )
        return INTERRUPTED
    job = retrieve(job_id)
    if as_json:
        print(job.to_json(indent=None))
    else:
        _print_end(group, job)
    return 0 if job.status == "succeeded" else JOB_UNSUCCESSFUL


def newest_step(client: Client, fine_tune_id: str) -> StepSource:
    """Return a source of the newest step message of a first-API job.

    The first API tells epochs only. The embedded engine shows the same job in the second
    API, which tells each step; where a server does not, there is nothing to show.
    """
    job_id = f"ftjob-{fine_tune_id.removeprefix('ft-')}"

    def newest() -> tuple[str, int] | None:
        try:
            events = client.fine_tuning.jobs.list_events(job_id, limit=5).data
        except TunesmithError:
            return None
        return next(((e.message, e.created_at) for e in events if is_step(e.message)), None)

    return newest


def _show(events: Iterable[Any], *, as_json: bool, steps: StepSource | None) -> None:
    if as_json:
        for event in events:
            print(event.to_json(indent=None), flush=True)
        return
    with job_view(steps) as view:
        for event in events:
            view.event(event.message, event.created_at)


def _print_end(group: str, job: Any) -> None:
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
