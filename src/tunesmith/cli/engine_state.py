"""`tunesmith engine …`: maintenance of the engine's state folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .options import (
    add_database_option,
    add_home_option,
    get_home,
    open_database,
    require_engine,
)
from .output import add_json_option, print_json
from .parser import add_command, add_group
from .progress_bar import progress_bar

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
    install = add_command(
        group,
        "install",
        _install,
        "Install a program that the engine runs: vLLM, in an environment of its own",
        "tunesmith engine install vllm",
    )
    install.add_argument("program", choices=["vllm"], help="what to install")
    install.add_argument(
        "--python", type=Path, metavar="FILE", help="Python of the environment (default: this one)"
    )
    install.add_argument(
        "--without-gpu", action="store_true", help="install even where no GPU is found"
    )
    add_home_option(install)


def _install(arguments: argparse.Namespace) -> int:
    require_engine()
    home = get_home(arguments)
    from tunesmith.engine.serving.vllm_environment import VLLM_VERSION, install_vllm

    home.make_private()
    with progress_bar() as report:
        is_new = install_vllm(
            home.vllm, report, python=arguments.python, needs_gpu=not arguments.without_gpu
        )
    if is_new:
        print(f'vLLM {VLLM_VERSION} is installed. Set backend = "vllm" under [serving] to use it.')
    else:
        print(f"vLLM {VLLM_VERSION} is installed already.")
    return 0


def _collect_garbage(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.store.garbage_collection import collect_garbage

        removed = collect_garbage(home, database)
    if arguments.json:
        print_json({"places": removed.places, "bytes": removed.bytes})
    else:
        print(f"Removed {removed.places} files and folders, {removed.bytes / 1e6:.1f} MB.")
    return 0
