"""`tunesmith keys …`: the API keys of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import add_database_option, add_home_option, open_database
from .output import add_json_option, local_minute, print_json, print_notice, table
from .parser import add_command, add_group

if TYPE_CHECKING:
    import argparse

    from .parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the group `keys`."""
    group = add_group(commands, "keys", "Create, list and revoke the engine's API keys")
    create = add_command(
        group,
        "create",
        _create,
        "Create a key and print it, once",
        "tunesmith keys create --name laptop --role owner",
    )
    create.add_argument("--name", default="", help="a note on what the key is for")
    create.add_argument(
        "--role",
        choices=("owner", "member"),
        default="member",
        help="owners may delete models (default: member)",
    )
    create.add_argument(
        "--org", default="local", metavar="NAME", help="organisation (default: local)"
    )
    listing = add_command(group, "list", _list, "List the keys", "tunesmith keys list")
    revoke = add_command(group, "revoke", _revoke, "Revoke a key", "tunesmith keys revoke key-abc")
    revoke.add_argument("key", metavar="KEY_ID", help="the key's id, from `tunesmith keys list`")
    for parser in (create, listing, revoke):
        add_json_option(parser)
        add_home_option(parser)
        add_database_option(parser)


def _create(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.security.keys import create_key

        row, secret = create_key(
            database, name=arguments.name, role=arguments.role, organization=arguments.org
        )
    if arguments.json:
        print_json(
            {
                "id": row.id,
                "key": secret,
                "role": row.role,
                "organization": row.organization,
                "engine": str(home.root),
            }
        )
    else:
        print(secret)
        print_notice(
            f"This is key {row.id}, with the role {row.role} in {row.organization}, of the engine "
            f"whose state is in {home.root}. It is shown only now: keep it, for example as "
            "TUNESMITH_API_KEY. That engine takes no request without a key from now on."
        )
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (_, database):
        from tunesmith.engine.security.keys import list_keys

        rows = list_keys(database)
    if arguments.json:
        print_json(
            [
                {
                    "id": row.id,
                    "name": row.name,
                    "hint": row.hint,
                    "role": row.role,
                    "organization": row.organization,
                    "created_at": row.created_at,
                    "revoked_at": row.revoked_at,
                }
                for row in rows
            ]
        )
    elif rows:
        cells = (
            (
                row.id,
                row.name,
                f"…{row.hint}",
                row.role,
                row.organization,
                local_minute(int(row.created_at)),
                "revoked" if row.revoked_at else "in use",
            )
            for row in rows
        )
        print(table(("id", "name", "key", "role", "organisation", "created", "state"), cells))
    else:
        print("No keys. Until one is created, the engine accepts any key, on loopback only.")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (_, database):
        from tunesmith.engine.security.keys import revoke_key

        revoke_key(database, arguments.key)
    if arguments.json:
        print_json({"id": arguments.key, "revoked": True})
    else:
        print(f"Key {arguments.key} is revoked.")
    return 0
