"""`tunesmith engine …`: maintenance of the engine's state folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.disk_space import folder_bytes

from .options import (
    add_database_option,
    add_home_option,
    get_home,
    open_database,
    require_engine,
)
from .output import add_json_option, print_json, table
from .parser import add_command, add_group
from .progress_bar import progress_bar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tunesmith.engine.store.garbage_collection import Garbage

    from .parser import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the group `engine`."""
    group = add_group(commands, "engine", "Maintain the engine's state folder")
    gc = add_command(
        group,
        "gc",
        _collect_garbage,
        "Show what no file, model or unfinished job needs, and remove it",
        "tunesmith engine gc --dry-run\ntunesmith engine gc --yes",
    )
    how = gc.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="show it, and remove nothing")
    how.add_argument("-y", "--yes", action="store_true", help="remove it without a question")
    usage = add_command(
        group,
        "du",
        _usage,
        "Show what takes space in the state folder, and what frees it",
        "tunesmith engine du",
    )
    delete = add_command(
        group,
        "delete-job",
        _delete_job,
        "Delete a job that has ended: its events, checkpoints and folder",
        "tunesmith engine delete-job ftjob-abc",
    )
    delete.add_argument("job", metavar="JOB", help="the job's id")
    for parser in (gc, usage, delete):
        add_json_option(parser)
        add_home_option(parser)
        add_database_option(parser)
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
        from tunesmith.engine.store.garbage_collection import collect_garbage, find_garbage

        found = find_garbage(home, database)
        if not arguments.json:
            _show_garbage(found)
        # Only a terminal is asked; scripts have always removed it by this command.
        if arguments.dry_run or not (arguments.yes or _is_wanted(found)):
            removed = None
        else:
            removed = collect_garbage(home, database)
    if arguments.json:
        kinds = [{"kind": o.kind, "places": len(o.paths), "bytes": o.bytes} for o in found]
        places = sum(len(one.paths) for one in found) if removed is None else removed.places
        size = sum(one.bytes for one in found) if removed is None else removed.bytes
        print_json(
            {"places": places, "bytes": size, "removed": removed is not None, "kinds": kinds}
        )
    elif removed is not None:
        print(f"Removed {removed.places} files and folders, {_megabytes(removed.bytes)}.")
    elif found:
        print("Nothing was removed.")
    return 0


def _show_garbage(found: Sequence[Garbage]) -> None:
    if found:
        rows = [(one.kind, len(one.paths), _megabytes(one.bytes)) for one in found]
        print(table(("what nothing needs", "places", "frees"), rows))


def _is_wanted(found: Sequence[Garbage]) -> bool:
    if not found or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    print("Remove this? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


_FREED_BY = {
    "base models": "tunesmith models remove NAME",
    "fine-tuned models": "tunesmith api models.delete MODEL",
    "jobs": "tunesmith engine delete-job JOB; checkpoints: tunesmith api models.delete MODEL",
    "files": "tunesmith api files.delete FILE",
    "uploads": "tunesmith engine gc, once they have ended",
    "exports": "tunesmith engine gc, once they have expired",
    "downloads": "deleting the folder, while nothing is pulled",
    "tools": "deleting the folder; they are downloaded again",
    "vLLM": "deleting the folder; tunesmith engine install vllm brings it back",
    "database and logs": "-",
}


def _usage(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.store.garbage_collection import find_garbage

        garbage = sum(one.bytes for one in find_garbage(home, database))
        folders = {
            "base models": home.base_models,
            "fine-tuned models": home.models,
            "jobs": home.jobs,
            "files": home.files,
            "uploads": home.uploads,
            "exports": home.exports,
            "downloads": home.downloads,
            "tools": home.tools,
            "vLLM": home.vllm,
        }
    sizes = {what: folder_bytes(one) for what, one in folders.items()}
    sizes["database and logs"] = sum(
        path.stat().st_size for path in home.root.iterdir() if path.is_file()
    )
    if arguments.json:
        print_json({"home": str(home.root), "bytes": sizes, "garbage": garbage})
        return 0
    rows = [(what, _megabytes(size), _FREED_BY[what]) for what, size in sizes.items() if size]
    print(table(("what", "size", "freed by"), rows))
    total = _megabytes(sum(sizes.values()))
    print(f"\n{total} in {home.root}; of it `tunesmith engine gc` frees {_megabytes(garbage)}.")
    return 0


def _delete_job(arguments: argparse.Namespace) -> int:
    with open_database(arguments) as (home, database):
        from tunesmith.engine.store.job_removal import remove_job

        freed = remove_job(home, database, arguments.job)
    if arguments.json:
        print_json({"id": arguments.job, "deleted": True, "freed_bytes": freed})
    else:
        print(
            f"Deleted the job {arguments.job} with its events and logs; {_megabytes(freed)} are "
            "free again. Its model, if it made one, and its files stay."
        )
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
