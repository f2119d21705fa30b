"""What all `api` commands share: a client while they run, and output as tables or `--json`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tunesmith.cli.options import add_connection_options, connect
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
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client
    from tunesmith.types.base import WireModel

    Call = Callable[[Client, argparse.Namespace], int]
    # Column header → the function that returns the cell of an object.
    Columns = dict[str, Callable[[Any], object]]

__all__ = [
    "EVENT_COLUMNS",
    "JOB_COLUMNS",
    "add_call",
    "add_id_option",
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
    return parser


def add_id_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `-i`/`--id`, required."""
    parser.add_argument("-i", "--id", required=True, metavar="ID", help=f"id of the {what}")


def print_object(value: WireModel, arguments: argparse.Namespace) -> int:
    """Print one object, as fields or as JSON."""
    if arguments.json:
        print_json(value.to_dict())
    else:
        print(fields(value.to_dict()))
    return 0


def print_list(
    values: Iterable[WireModel],
    arguments: argparse.Namespace,
    columns: Columns,
) -> int:
    """Print objects as a table with these columns, or as a JSON array."""
    items = list(values)
    if arguments.json:
        print_json([value.to_dict() for value in items])
    elif items:
        rows = ([column(value) for column in columns.values()] for value in items)
        print(table(list(columns), rows))
    else:
        print("None.")
    return 0


def _run(call: Call, arguments: argparse.Namespace) -> int:
    with connect(arguments) as client:
        return call(client, arguments)
