"""`api fine_tuning.jobs.*`: jobs of the fine-tuning jobs API (`/v1/fine_tuning/jobs`).

The older spelling `fine_tuning.job.*` works, too.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tunesmith.cli.output import print_notice
from tunesmith.types.job_parameters import job_parameter

from .call import (
    EVENT_COLUMNS,
    add_call,
    add_id_option,
    add_job_filters,
    add_limit_option,
    print_jobs,
    print_list,
    print_object,
)
from .follow import follow
from .job_options import add_job_options, job_settings, uploaded_files
from .result_files import add_results_options, print_results

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client

    from .call import Columns

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    _register_create(commands)
    listing = add_call(
        commands,
        "fine_tuning.jobs.list",
        _list,
        "List fine-tuning jobs, newest first",
        "tunesmith api fine_tuning.jobs.list --limit 10",
        aliases=["fine_tuning.job.list"],
    )
    add_job_filters(listing)
    for name, call, summary in (
        ("get", _get, "Show a job"),
        ("events", _events, "Print a job's events so far, oldest first"),
        ("checkpoints", _checkpoints, "List the checkpoints of a job"),
        ("follow", _follow, "Follow a job until it ends"),
        ("cancel", _cancel, "Cancel a job"),
        ("pause", _pause, "Pause a job"),
        ("resume", _resume, "Resume a paused job"),
        ("results", _results, "Print a job's result file"),
    ):
        parser = add_call(
            commands,
            f"fine_tuning.jobs.{name}",
            call,
            summary,
            f"tunesmith api fine_tuning.jobs.{name} -i ftjob-abc",
            aliases=[f"fine_tuning.job.{name}"],
        )
        add_id_option(parser, "job")
        if name == "results":
            add_results_options(parser)
        if name == "events":
            add_limit_option(parser, "only the newest N")


def _register_create(commands: Commands) -> None:
    create = add_call(
        commands,
        "fine_tuning.jobs.create",
        _create,
        "Create a fine-tuning job and follow it",
        "tunesmith api fine_tuning.jobs.create -t chats.jsonl -m gpt-3.5-turbo --n_epochs 3",
        aliases=["fine_tuning.job.create"],
    )
    create.add_argument("-m", "--model", required=True, help="model to start from")
    add_job_options(create, "jobs")


def _create(client: Client, arguments: argparse.Namespace) -> int:
    options: dict[str, Any] = {}
    for name, value in job_settings(arguments, "jobs").items():
        place = options
        if job_parameter(name).is_hyperparameter:
            place = options.setdefault("hyperparameters", {})
        if job_parameter(name).is_own:
            place = options.setdefault("extra_body", {})
        place[name] = value
    files = uploaded_files(client, arguments)
    job = client.fine_tuning.jobs.create(model=arguments.model, **files, **options)
    if arguments.no_follow:
        return print_object(job, arguments)
    print_notice(f"Created job {job.id}; Ctrl-C stops following, not the job.")
    return _follow_job(client, job.id, arguments)


def _list(client: Client, arguments: argparse.Namespace) -> int:
    return print_jobs(client.fine_tuning.jobs.list(), arguments)


def _get(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.fine_tuning.jobs.retrieve(arguments.id), arguments)


def _events(client: Client, arguments: argparse.Namespace) -> int:
    newest_first = itertools.islice(
        client.fine_tuning.jobs.list_events(arguments.id), arguments.limit
    )
    return print_list(list(newest_first)[::-1], arguments, EVENT_COLUMNS)


def _checkpoints(client: Client, arguments: argparse.Namespace) -> int:
    columns: Columns = {
        "step": lambda checkpoint: checkpoint.step_number,
        "model": lambda checkpoint: checkpoint.fine_tuned_model_checkpoint,
        "training loss": lambda checkpoint: checkpoint.metrics.train_loss,
        "validation loss": lambda checkpoint: checkpoint.metrics.full_valid_loss,
    }
    found = client.fine_tuning.jobs.checkpoints.list(arguments.id)
    return print_list(found, arguments, columns)


def _follow(client: Client, arguments: argparse.Namespace) -> int:
    return _follow_job(client, arguments.id, arguments)


def _follow_job(client: Client, job_id: str, arguments: argparse.Namespace) -> int:
    return follow("fine_tuning.jobs", job_id, client.fine_tuning.jobs, as_json=arguments.json)


def _cancel(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.fine_tuning.jobs.cancel(arguments.id), arguments)


def _pause(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.fine_tuning.jobs.pause(arguments.id), arguments)


def _resume(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.fine_tuning.jobs.resume(arguments.id), arguments)


def _results(client: Client, arguments: argparse.Namespace) -> int:
    return print_results(client.fine_tuning.jobs.retrieve(arguments.id), arguments)
