"""Options of the commands that ask models: prompts, prices, limits, and how to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cli.options import whole_number
from tunesmith.cli.output import print_notice
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tunesmith.migrate import Prompt
    from tunesmith.migrate.recordings import Source

__all__ = ["add_asking_options", "add_prompt_options", "chosen_prompts", "progress", "settings_of"]

_SOURCES: tuple[Source, ...] = ("user", "stored", "eval", "validation", "training")


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add the files that prompts come from."""
    for source in _SOURCES:
        text = {
            "user": "your own prompts: requests, chats, batch lines, tests of promptfoo",
            "stored": "stored chat completions, as `api chat.completions.export` writes them",
            "eval": "items of evals: of the service, promptfoo (YAML, JSON, JSONL, CSV), Langfuse",
            "validation": "validation files of jobs",
            "training": "training files of jobs; the model may have memorised them",
        }[source]
        name = "prompts" if source == "user" else source
        parser.add_argument(
            f"--{name}", dest=source, action="append", default=[], metavar="FILE", help=text
        )
    parser.add_argument(
        "--archive", metavar="DIR",
        help="an archive: the model's stored completions, and the files of its job",
    )  # fmt: skip
    parser.add_argument(
        "--archived-as", metavar="NAME",
        help="the model's name in the archive, where callers use another one, as for the "
        "deployments of Azure",
    )  # fmt: skip
    parser.add_argument(
        "--turns", choices=("last", "all"), default="last",
        help="cut conversations before the last answer, or before each (default: last)",
    )  # fmt: skip
    parser.add_argument(
        "--sample",
        type=whole_number(1),
        metavar="N",
        help="ask N prompts at most, drawn from all files",
    )


def add_asking_options(parser: argparse.ArgumentParser) -> None:
    """Add how a model is asked."""
    parser.add_argument(
        "--concurrency", type=whole_number(1), default=16, metavar="N",
        help="requests at one time at most; fewer while the service is busy (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="NAME=VALUE",
        help="change how answers are sampled, such as seed=7; NAME= leaves a setting out",
    )  # fmt: skip


def chosen_prompts(arguments: argparse.Namespace) -> list[Prompt]:
    """Return the prompts of all files, without doubles; say what was left out."""
    from tunesmith.migrate import archived_prompts, read_prompts, sample_prompts

    files = [
        read_prompts(path, source, turns=arguments.turns)
        for source in _SOURCES
        for path in getattr(arguments, source)
    ]
    if arguments.archive:
        folder, name = folder_of(arguments.archive), arguments.archived_as or arguments.model
        files.append(archived_prompts(folder, name, turns=arguments.turns))
    for file in files:
        for place, reason in file.left_out.items():
            print_notice(f"left out {place}: {reason}")
    prompts = [prompt for file in files for prompt in file.prompts]
    if not prompts:
        raise TunesmithError(
            "Name at least one file of prompts, such as --validation valid.jsonl, or --archive."
        )
    return sample_prompts(prompts, arguments.sample)


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the changed settings; None for those that are left out."""
    settings: dict[str, Any] = {}
    for change in arguments.changes:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise TunesmithError(f"--set takes NAME=VALUE, not {change!r}.")
        try:
            settings[name] = json.loads(value) if value else None
        except ValueError:
            settings[name] = value
    return settings


def progress(what: str) -> Callable[[int, int], None]:
    """Return a function that reports each tenth on stderr."""
    printed = -1

    def report(done: int, total: int) -> None:
        nonlocal printed
        share = done * 10 // total if total else 10
        if share > printed:
            printed = share
            print_notice(f"{what}: {done} of {total}")

    return report


def folder_of(path: str) -> Path:
    """Return a folder that the user named."""
    return Path(path).expanduser()
