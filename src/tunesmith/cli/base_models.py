"""`tunesmith models …`: the base models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import add_home_option, get_home, require_engine
from .output import add_json_option, print_json, table
from .parser import add_command, add_group
from .progress_bar import progress_bar

if TYPE_CHECKING:
    import argparse

    from .parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the group `models`."""
    group = add_group(commands, "models", "Get and list base models on this machine")
    pull = add_command(
        group,
        "pull",
        _pull,
        "Download a base model, once",
        "tunesmith models pull smollm2-135m-instruct",
    )
    pull.add_argument(
        "name",
        metavar="NAME",
        help="an id or a name from `models list`, or a hub id (organisation/model)",
    )
    add_home_option(pull)
    listing = add_command(
        group,
        "list",
        _list,
        "List base models and the names that select them",
        "tunesmith models list",
    )
    add_json_option(listing)
    add_home_option(listing)


def _pull(arguments: argparse.Namespace) -> int:
    require_engine("Pulling models")
    home = get_home(arguments)
    from tunesmith.engine.models.pull import pull

    with progress_bar() as report:
        model = pull(arguments.name, home, report)
    print(f"{model.id} is ready in {model.path}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    require_engine("The table of base models")
    home = get_home(arguments)
    from tunesmith.engine.models.catalog import load_catalog

    catalog = load_catalog(home)
    names: dict[str, list[str]] = {}
    for name in catalog.names:
        names.setdefault(catalog.find(name).id, []).append(name)
    if arguments.json:
        print_json(
            [
                {
                    "id": base.id,
                    "hub_id": base.hub_id,
                    "installed": base.installed,
                    "path": str(base.path),
                    "license": base.license,
                    "names": names.get(base.id, []),
                }
                for base in catalog.bases()
            ]
        )
        return 0
    rows = [
        (base.id, "yes" if base.installed else "no", base.license, base.hub_id or str(base.path))
        for base in catalog.bases()
    ]
    print(table(("id", "installed", "licence", "source"), rows))
    for base_id, selecting in names.items():
        print(f"\nThese names select {base_id}: {', '.join(selecting)}.")
    return 0
