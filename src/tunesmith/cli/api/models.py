"""`api models.*`: list, inspect and delete models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.output import local_minute

from .call import add_call, add_id_option, add_limit_option, print_list, print_object

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client

    from .call import Columns

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    listing = add_call(commands, "models.list", _list, "List models", "tunesmith api models.list")
    listing.add_argument("--owner", help="only models of this owner")
    add_limit_option(listing)
    get = add_call(commands, "models.get", _get, "Show a model", "tunesmith api models.get -i ada")
    add_id_option(get, "model")
    delete = add_call(
        commands,
        "models.delete",
        _delete,
        "Delete a fine-tuned model (needs an owner's key)",
        "tunesmith api models.delete -i ada:ft-acme-2026-01-31-12-00-00",
    )
    add_id_option(delete, "model")


def _list(client: Client, arguments: argparse.Namespace) -> int:
    columns: Columns = {
        "id": lambda model: model.id,
        "owner": lambda model: model.owned_by,
        "created": lambda model: local_minute(model.created),
    }
    found = client.models.list()
    owner = arguments.owner
    return print_list(
        (model for model in found if owner in {None, model.owned_by}), arguments, columns
    )


def _get(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.models.retrieve(arguments.id), arguments)


def _delete(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.models.delete(arguments.id), arguments)
