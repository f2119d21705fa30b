"""Print a job's result file, its summary or its curves, for either fine-tuning API."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from tunesmith.cli.output import print_json, print_notice

if TYPE_CHECKING:
    import argparse

    from tunesmith.core.modes import Sync
    from tunesmith.types import FineTune, FineTuningJob

__all__ = ["add_results_options", "print_results"]


def add_results_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--summary", action="store_true", help="print a summary, not the file")
    parser.add_argument("--plot", metavar="PATH", help="draw the curves to a PNG, PDF or SVG file")


def print_results(job: FineTune[Sync] | FineTuningJob[Sync], arguments: argparse.Namespace) -> int:
    """Print the job's result file as CSV, or what the options select.

    Raises:
        TunesmithError: The job has no result file yet.
    """
    results = job.results()
    if arguments.plot:
        results.plot(arguments.plot, title=job.fine_tuned_model)
        print_notice(f"Curves: {arguments.plot}")
    if arguments.summary and arguments.json:
        print_json(dataclasses.asdict(results.summary()))
    elif arguments.summary:
        print(results.summary())
    elif arguments.json:
        rows = [
            {name: results.cells[name][row] for name in results.columns}
            for row in range(len(results))
        ]
        print_json(rows)
    elif not arguments.plot:
        sys.stdout.write(results.to_csv())
    return 0
