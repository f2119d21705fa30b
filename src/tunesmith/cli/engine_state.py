"""`tunesmith engine …`: maintenance of the engine's state folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import add_database_option, add_home_option, open_database
from .output import add_json_option, print_json
from .parser import add_command, add_group

if TYPE_CHECKING:
    import argparse

    from .parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the group `engine`."""
    group = add_group(commands, "engine", "Maintain the engine's state folder")
    gc = add_command(
        group,
        "gc",
        _collect_garbage,
        "Remove what no file, model or unfinished job needs; safe while the engine runs",
        "tunesmith engine gc",
    )
    add_json_option(gc)
    add_home_option(gc)
    add_database_option(gc)


def _collect_garbage(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.store.garbage_collection import collect_garbage

        removed = collect_garbage(home, database)
    if arguments.json:
        print_json({"places": removed.places, "bytes": removed.bytes})
    else:
        print(f"Removed {removed.places} files and folders, {removed.bytes / 1e6:.1f} MB.")
    return 0
