"""What all `api` commands share: a client while they run, and output as tables or `--json`."""

from __future__ import annotations

import argparse
import functools
import itertools
from typing import TYPE_CHECKING, Any

from tunesmith.cli.options import (
    add_connection_options,
    add_engine_option,
    connect,
    whole_number,
)
from tunesmith.cli.output import (
    add_json_option,
    fields,
    local_minute,
    local_time,
    print_json,
    table,
)
from tunesmith.cli.parser import add_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client
    from tunesmith.types.base import WireModel

    Call = Callable[[Client, argparse.Namespace], int]
    # Column header → the function that returns the cell of an object.
    Columns = dict[str, Callable[[Any], object]]

__all__ = [
    "EVENT_COLUMNS",
    "add_call",
    "add_id_option",
    "add_job_filters",
    "add_limit_option",
    "add_list_options",
    "freed_bytes",
    "print_jobs",
    "print_list",
    "print_object",
]

# For both fine-tuning APIs: lists show only the fields that their job objects share.
JOB_COLUMNS: Columns = {
    "id": lambda job: job.id,
    "status": lambda job: job.status,
    "model": lambda job: job.model,
    "fine-tuned model": lambda job: job.fine_tuned_model,
    "created": lambda job: local_minute(job.created_at),
}
EVENT_COLUMNS: Columns = {
    "time": lambda event: local_time(event.created_at),
    "level": lambda event: event.level,
    "message": lambda event: event.message,
}


def add_call(
    commands: Commands,
    name: str,
    call: Call,
    summary: str,
    example: str,
    *,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Add a command that calls one API operation; see `add_command`."""
    handler = functools.partial(_run, call)
    parser = add_command(commands, name, handler, summary, example, aliases=aliases)
    add_json_option(parser)
    add_connection_options(parser)
    add_engine_option(parser)
    return parser


def add_id_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the id, which may also follow `-i` or `--id`."""
    either = parser.add_mutually_exclusive_group(required=True)
    absent: Any = argparse.SUPPRESS
    either.add_argument("id", nargs="?", metavar="ID", default=absent, help=f"id of the {what}")
    either.add_argument("-i", "--id", dest="id", metavar="ID", default=absent, help="the same")


def add_limit_option(parser: argparse.ArgumentParser, what: str = "at most N") -> None:
    """Add `--limit`, a number of at least 1."""
    parser.add_argument("--limit", type=whole_number(1), metavar="N", help=what)


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """Add `--limit` and `--ids`, which `print_list` follows."""
    add_limit_option(parser)
    parser.add_argument("--ids", action="store_true", help="print the ids alone, one a line")


def add_job_filters(parser: argparse.ArgumentParser) -> None:
    """Add `--status`, `--model` and the options of lists, which `print_jobs` follows."""
    parser.add_argument("--status", help="only jobs of this status")
    parser.add_argument("--model", help="only jobs that started from this model")
    add_list_options(parser)


def print_jobs(jobs: Iterable[Any], arguments: argparse.Namespace) -> int:
    """Print the jobs of either API that the options select."""
    selected = (
        job
        for job in jobs
        if arguments.status in {None, job.status} and arguments.model in {None, job.model}
    )
    return print_list(selected, arguments, JOB_COLUMNS)


def print_object(value: WireModel, arguments: argparse.Namespace) -> int:
    """Print one object, as fields or as JSON."""
    if arguments.json:
        print_json(value.to_dict())
    else:
        print(fields({name: _shown(name, one) for name, one in value.to_dict().items()}))
    return 0


def freed_bytes(deleted: WireModel) -> int | None:
    """Return how many bytes a deletion has freed; None where the server does not say."""
    freed: object = (deleted.model_extra or {}).get("freed_bytes")
    return freed if isinstance(freed, int) else None


def _shown(name: str, value: object) -> object:
    """Return a time as a date, and a size with separators."""
    is_time = name.endswith("_at") or name in {"created", "estimated_finish"}
    if isinstance(value, int) and not isinstance(value, bool):
        if is_time:
            return local_time(value)
        if name == "bytes" or name.endswith("_bytes"):
            return f"{value:,}"
    return value


def print_list(
    values: Iterable[WireModel],
    arguments: argparse.Namespace,
    columns: Columns,
) -> int:
    """Print objects as a table, as their ids or as a JSON array: `--limit` of them."""
    items = list(itertools.islice(values, getattr(arguments, "limit", None)))
    if arguments.json:
        print_json([value.to_dict() for value in items])
    elif getattr(arguments, "ids", False):
        for value in items:
            print(columns["id"](value))
    elif items:
        rows = ([column(value) for column in columns.values()] for value in items)
        print(table(list(columns), rows))
    else:
        print("None.")
    return 0


def _run(call: Call, arguments: argparse.Namespace) -> int:
    with connect(arguments) as client:
        return call(client, arguments)
