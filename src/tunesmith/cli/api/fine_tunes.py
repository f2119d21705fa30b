"""`api fine_tunes.*`: jobs of the legacy API (`/v1/fine-tunes`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.cli.output import print_notice
from tunesmith.errors import TunesmithError

from .call import (
    EVENT_COLUMNS,
    add_call,
    add_id_option,
    add_job_filters,
    print_jobs,
    print_list,
    print_object,
)
from .follow import follow
from .job_options import add_job_options, job_settings, uploaded_files
from .models import add_checkpoints_option, delete_model
from .result_files import add_results_options, print_results

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    _register_create(commands)
    listing = add_call(
        commands, "fine_tunes.list", _list, "List fine-tunes", "tunesmith api fine_tunes.list"
    )
    add_job_filters(listing)
    for name, call, summary in (
        ("get", _get, "Show a fine-tune"),
        ("events", _events, "Print a fine-tune's events so far"),
        ("follow", _follow, "Follow a fine-tune until it ends"),
        ("cancel", _cancel, "Cancel a fine-tune"),
        ("delete", _delete, "Delete the model of a fine-tune"),
    ):
        parser = add_call(
            commands,
            f"fine_tunes.{name}",
            call,
            summary,
            f"tunesmith api fine_tunes.{name} -i ft-abc",
        )
        add_id_option(parser, "fine-tune")
        if name == "delete":
            add_checkpoints_option(parser)
    results = add_call(
        commands,
        "fine_tunes.results",
        _results,
        "Print a fine-tune's result file",
        "tunesmith api fine_tunes.results -i ft-abc > results.csv\n"
        "tunesmith api fine_tunes.results -i ft-abc --summary --plot curves.png",
    )
    add_id_option(results, "fine-tune")
    add_results_options(results)


def _register_create(commands: Commands) -> None:
    create = add_call(
        commands,
        "fine_tunes.create",
        _create,
        "Create a fine-tune and follow it",
        "tunesmith api fine_tunes.create -t train.jsonl -v valid.jsonl -m ada --suffix tweets",
    )
    create.add_argument("-m", "--model", help="model to start from (default: curie)")
    add_job_options(create, "legacy")


def _create(client: Client, arguments: argparse.Namespace) -> int:
    settings: dict[str, Any] = job_settings(arguments, "legacy")
    if arguments.model is not None:
        settings["model"] = arguments.model
    job = client.fine_tunes.create(**uploaded_files(client, arguments), **settings)
    if arguments.no_follow:
        return print_object(job, arguments)
    print_notice(f"Created fine-tune {job.id}; Ctrl-C stops following, not the job.")
    return _follow_job(client, job.id, arguments)


def _list(client: Client, arguments: argparse.Namespace) -> int:
    return print_jobs(client.fine_tunes.list(), arguments)


def _get(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.fine_tunes.retrieve(arguments.id), arguments)


def _events(client: Client, arguments: argparse.Namespace) -> int:
    return print_list(client.fine_tunes.list_events(arguments.id), arguments, EVENT_COLUMNS)


def _follow(client: Client, arguments: argparse.Namespace) -> int:
    return _follow_job(client, arguments.id, arguments)


def _follow_job(client: Client, job_id: str, arguments: argparse.Namespace) -> int:
    return follow("fine_tunes", job_id, client.fine_tunes, as_json=arguments.json)


def _cancel(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.fine_tunes.cancel(arguments.id), arguments)


def _delete(client: Client, arguments: argparse.Namespace) -> int:
    job = client.fine_tunes.retrieve(arguments.id)
    if job.fine_tuned_model is None:
        raise TunesmithError(f"Fine-tune {job.id} is {job.status} and has no model to delete.")
    return delete_model(client, job.fine_tuned_model, arguments)


def _results(client: Client, arguments: argparse.Namespace) -> int:
    return print_results(client.fine_tunes.retrieve(arguments.id), arguments)
