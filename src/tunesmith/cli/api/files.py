"""`api files.*`: upload, list, inspect, read and delete files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.output import local_minute

from .call import (
    add_call,
    add_id_option,
    add_list_options,
    freed_bytes,
    print_list,
    print_object,
)

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client

    from .call import Columns

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    create = add_call(
        commands,
        "files.create",
        _create,
        "Upload a file",
        "tunesmith api files.create -f train.jsonl",
    )
    create.add_argument("-f", "--file", required=True, metavar="PATH", help="file to upload")
    create.add_argument(
        "-p", "--purpose", default="fine-tune", help="purpose of the file (default: fine-tune)"
    )
    listing = add_call(commands, "files.list", _list, "List files", "tunesmith api files.list")
    listing.add_argument("--purpose", help="only files of this purpose")
    add_list_options(listing)
    get = add_call(
        commands, "files.get", _get, "Show a file's metadata", "tunesmith api files.get -i file-abc"
    )
    add_id_option(get, "file")
    content = add_call(
        commands,
        "files.content",
        _content,
        "Print a file's content, or save it",
        "tunesmith api files.content -i file-abc > train.jsonl",
    )
    add_id_option(content, "file")
    content.add_argument("-O", "--output", metavar="PATH", help="save it to this file instead")
    delete = add_call(
        commands, "files.delete", _delete, "Delete a file", "tunesmith api files.delete -i file-abc"
    )
    add_id_option(delete, "file")


def _create(client: Client, arguments: argparse.Namespace) -> int:
    uploaded = client.files.create(file=Path(arguments.file), purpose=arguments.purpose)
    return print_object(uploaded, arguments)


def _list(client: Client, arguments: argparse.Namespace) -> int:
    options = {"purpose": arguments.purpose} if arguments.purpose else {}
    columns: Columns = {
        "id": lambda file: file.id,
        "file": lambda file: file.filename,
        "bytes": lambda file: f"{file.bytes:,}",
        "purpose": lambda file: file.purpose,
        "created": lambda file: local_minute(file.created_at),
    }
    return print_list(client.files.list(**options), arguments, columns)


def _get(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.files.retrieve(arguments.id), arguments)


def _content(client: Client, arguments: argparse.Namespace) -> int:
    content = client.files.content(arguments.id)
    if arguments.output:
        content.write_to_file(arguments.output)
        return 0
    sys.stdout.buffer.write(content.read())
    sys.stdout.buffer.flush()
    return 0


def _delete(client: Client, arguments: argparse.Namespace) -> int:
    deleted = client.files.delete(arguments.id)
    if arguments.json:
        return print_object(deleted, arguments)
    freed = freed_bytes(deleted)
    if freed is None:
        print(f"Deleted {arguments.id}.")
    elif freed:
        print(f"Deleted {arguments.id}; {freed:,} bytes are free again.")
    else:
        print(f"Deleted {arguments.id}; its content stays, since another file has the same.")
    print("Jobs that used it, and the models that they made, stay.")
    return 0
