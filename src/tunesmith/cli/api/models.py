"""`api models.*`: list, inspect and delete models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.output import local_minute, print_json

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
    from tunesmith.types import Model

    from .call import Columns

__all__ = ["add_checkpoints_option", "delete_model", "register"]


def register(commands: Commands) -> None:
    """Add the commands."""
    listing = add_call(
        commands,
        "models.list",
        _list,
        "List models",
        "tunesmith api models.list\ntunesmith api models.list --fine_tuned --ids --limit 1",
    )
    listing.add_argument("--owner", help="only models of this owner")
    listing.add_argument(
        "--fine_tuned",
        action="store_true",
        help="only fine-tuned models without checkpoints, the newest first",
    )
    add_list_options(listing)
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
    add_checkpoints_option(delete)


def add_checkpoints_option(parser: argparse.ArgumentParser) -> None:
    """Add `--checkpoints`, which `delete_model` follows."""
    parser.add_argument(
        "--checkpoints", action="store_true", help="delete the checkpoints of its job, too"
    )


def _list(client: Client, arguments: argparse.Namespace) -> int:
    columns: Columns = {
        "id": lambda model: model.id,
        "owner": lambda model: model.owned_by,
        "created": lambda model: local_minute(model.created),
    }
    found = [one for one in client.models.list() if arguments.owner in {None, one.owned_by}]
    if arguments.fine_tuned:
        # Models of one second: the server lists the newest last.
        found = sorted(
            filter(_is_fine_tuned, reversed(found)), key=lambda one: one.created, reverse=True
        )
    return print_list(found, arguments, columns)


def _is_fine_tuned(model: Model) -> bool:
    """Tell by the engine's fields, or by the form of a hosted id; no checkpoint is one."""
    extra = model.model_extra or {}
    if "step" in extra:
        return extra["step"] is None
    is_named_so = model.id.startswith("ft:") or ":ft-" in model.id
    return is_named_so and ":ckpt-step-" not in model.id


def _get(client: Client, arguments: argparse.Namespace) -> int:
    return print_object(client.models.retrieve(arguments.id), arguments)


def _delete(client: Client, arguments: argparse.Namespace) -> int:
    return delete_model(client, arguments.id, arguments)


def delete_model(client: Client, name: str, arguments: argparse.Namespace) -> int:
    """Delete a fine-tuned model, on request with its job's checkpoints; say what went and stays."""
    job, checkpoints = _job_and_checkpoints(client, name)
    wanted = [name, *(checkpoints if arguments.checkpoints else ())]
    deleted = [client.models.delete(one) for one in wanted]
    if arguments.json:
        if len(deleted) == 1:
            return print_object(deleted[0], arguments)
        print_json([one.to_dict() for one in deleted])
        return 0
    for one in deleted:
        freed = freed_bytes(one)
        print(f"Deleted {one.id}{'' if freed is None else f'; {freed:,} bytes are free again'}.")
    if checkpoints and not arguments.checkpoints:
        print(
            f"{len(checkpoints)} checkpoints of its job stay: {', '.join(checkpoints)}. "
            "`tunesmith api models.delete` deletes them one by one."
        )
    if job is not None:
        print(f"Its job {job} stays, with events and results: tunesmith engine delete-job {job}")
    return 0


def _job_and_checkpoints(client: Client, name: str) -> tuple[str | None, list[str]]:
    """Return a model's job and the names of the job's checkpoints, where the server tells them."""
    found = {model.id: model.model_extra or {} for model in client.models.list()}
    job: object = found.get(name, {}).get("job")
    if not isinstance(job, str):
        return None, []
    others = [one for one, extra in found.items() if extra.get("job") == job and one != name]
    return job, others
