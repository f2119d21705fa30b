"""`api fine_tunes.*`: jobs of the legacy API (`/v1/fine-tunes`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.cli.output import print_notice
from tunesmith.cli.training_files import resolve_file
from tunesmith.errors import TunesmithError

from .call import EVENT_COLUMNS, JOB_COLUMNS, add_call, add_id_option, print_list, print_object
from .follow import follow
from .result_files import add_results_options, print_results

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client

__all__ = ["register"]

# Passed on unchanged when they were used.
OPTIONS = (
    "model",
    "suffix",
    "n_epochs",
    "batch_size",
    "learning_rate_multiplier",
    "prompt_loss_weight",
    "classification_n_classes",
    "classification_positive_class",
    "classification_betas",
)


def register(commands: Commands) -> None:
    """Add the commands."""
    _register_create(commands)
    add_call(commands, "fine_tunes.list", _list, "List fine-tunes", "tunesmith api fine_tunes.list")
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
    create.add_argument(
        "-t", "--training_file", "--training-file", required=True, metavar="ID_OR_PATH",
        help="training data: id of an uploaded file, a path, or a URL",
    )  # fmt: skip
    create.add_argument(
        "-v", "--validation_file", "--validation-file", metavar="ID_OR_PATH",
        help="validation data: an id, a path, or a URL",
    )  # fmt: skip
    create.add_argument("-m", "--model", help="model to start from (default: curie)")
    create.add_argument("--suffix", help="part of the new model's name, up to 40 characters")
    create.add_argument("--n_epochs", "--n-epochs", type=int, metavar="N", help="default: 4")
    create.add_argument(
        "--batch_size", "--batch-size", type=int, metavar="N",
        help="examples a step (default: 0.2 %% of the data, at most 256)",
    )  # fmt: skip
    create.add_argument(
        "--learning_rate_multiplier", "--learning-rate-multiplier", type=float, metavar="X",
        help="default: 0.05, 0.1 or 0.2 by batch size",
    )  # fmt: skip
    create.add_argument(
        "--prompt_loss_weight", "--prompt-loss-weight", type=float, metavar="X",
        help="weight of the prompt's tokens in the loss (default: 0.01)",
    )  # fmt: skip
    create.add_argument(
        "--compute_classification_metrics", "--compute-classification-metrics",
        action="store_true",
        help="measure accuracy, F1 and so on after each epoch; needs -v and one of the next two",
    )  # fmt: skip
    create.add_argument(
        "--classification_n_classes", "--classification-n-classes", type=int, metavar="N",
        help="number of classes",
    )  # fmt: skip
    create.add_argument(
        "--classification_positive_class", "--classification-positive-class", metavar="TEXT",
        help="the positive one of two classes, as the completion is written",
    )  # fmt: skip
    create.add_argument(
        "--classification_betas", "--classification-betas", type=float, nargs="+", metavar="X",
        help="also report F-beta for these",
    )  # fmt: skip
    add_create_options(create)


def add_create_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of creating a job that both fine-tuning APIs share."""
    parser.add_argument(
        "--no_follow", "--no-follow", action="store_true", help="return once the job is created"
    )
    parser.add_argument(
        "--no_check_if_files_exist", "--no-check-if-files-exist",
        dest="check_if_files_exist", action="store_false",
        help="upload without looking for an identical file on the server",
    )  # fmt: skip


def uploaded_files(client: Client, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the ids of the training and validation files, uploading those that are paths."""
    check = arguments.check_if_files_exist
    named = {
        "training_file": arguments.training_file,
        "validation_file": arguments.validation_file,
    }
    return {
        name: resolve_file(client, value, check_existing=check)
        for name, value in named.items()
        if value
    }


def _create(client: Client, arguments: argparse.Namespace) -> int:
    options: dict[str, Any] = {
        name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None
    }
    if arguments.compute_classification_metrics:
        options["compute_classification_metrics"] = True
    job = client.fine_tunes.create(**uploaded_files(client, arguments), **options)
    if arguments.no_follow:
        return print_object(job, arguments)
    print_notice(f"Created fine-tune {job.id}; Ctrl-C stops following, not the job.")
    return _follow_job(client, job.id, arguments)


def _list(client: Client, arguments: argparse.Namespace) -> int:
    return print_list(client.fine_tunes.list(), arguments, JOB_COLUMNS)


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
    return print_object(client.models.delete(job.fine_tuned_model), arguments)


def _results(client: Client, arguments: argparse.Namespace) -> int:
    return print_results(client.fine_tunes.retrieve(arguments.id), arguments)
