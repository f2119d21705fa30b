"""`tunesmith wandb sync`, `mlflow sync`, `trackio sync`: finished fine-tunes as tracked runs."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from .options import add_connection_options, connect, whole_number
from .output import add_json_option, print_json
from .parser import add_command, add_group

if TYPE_CHECKING:
    import argparse

    from tunesmith.tracking import Outcome

    from .parser import Commands

__all__ = ["register"]

# As in `tunesmith.tracking`, which is not imported before it is needed.
TITLES = {"wandb": "Weights & Biases", "mlflow": "MLflow", "trackio": "trackio"}


def register(commands: Commands) -> None:
    """Add a group for each tracker."""
    for kind, title in TITLES.items():
        group = add_group(commands, kind, f"Fine-tunes as runs of {title}")
        parser = add_command(
            group,
            "sync",
            functools.partial(_sync, kind),
            f"Write fine-tunes that have succeeded to {title}, each once",
            f"tunesmith {kind} sync\ntunesmith {kind} sync -n 3 --project reviews",
        )
        parser.add_argument("-i", "--id", metavar="ID", help="only this job, of either API")
        parser.add_argument(
            "-n",
            "--n_fine_tunes",
            type=whole_number(1),
            metavar="N",
            help="only the N newest; default: all",
        )
        parser.add_argument(
            "--project", default="tunesmith", metavar="NAME",
            help="project (of MLflow: experiment) of the runs; default: tunesmith",
        )  # fmt: skip
        if kind == "wandb":
            parser.add_argument("--entity", metavar="NAME", help="user or team that owns the runs")
        parser.add_argument(
            "--force", action="store_true", help="also write runs that were written before"
        )
        add_json_option(parser)
        add_connection_options(parser)


def _sync(kind: str, arguments: argparse.Namespace) -> int:
    from tunesmith.tracking import open_tracker, sync

    entity = getattr(arguments, "entity", None)
    with (
        connect(arguments) as client,
        open_tracker(kind, project=arguments.project, entity=entity) as tracker,
    ):
        outcomes: list[Outcome] = []
        found = sync(
            client,
            tracker,
            arguments.id,
            newest=arguments.n_fine_tunes,
            force=arguments.force,
        )
        for outcome in found:
            outcomes.append(outcome)
            if not arguments.json:
                print(f"{outcome.job}  {_describe(outcome)}")
    if arguments.json:
        print_json([dataclasses.asdict(outcome) for outcome in outcomes])
    elif not outcomes:
        print("There are no fine-tunes.")
    return 0


def _describe(outcome: Outcome) -> str:
    if outcome.action == "written":
        return f"written: {outcome.detail}"
    if outcome.action == "present":
        return "already there; --force writes it again"
    return f"skipped: its status is {outcome.detail!r}"
