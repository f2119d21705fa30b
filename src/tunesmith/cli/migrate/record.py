"""`tunesmith migrate record`: the old models' answers, while they live."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tunesmith.cli.options import add_connection_options, connect, whole_number
from tunesmith.cli.output import add_json_option, print_json, print_notice
from tunesmith.cli.parser import add_command
from tunesmith.errors import TunesmithError

from .asked import (
    add_asking_options,
    add_prompt_options,
    chosen_prompts,
    folder_of,
    progress,
    settings_of,
)
from .options import add_azure_options, connect_azure

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from tunesmith.cli.parser import Commands
    from tunesmith.migrate import CostEstimate, Prices, RecordOutcome
    from tunesmith.migrate.recorder import Purpose

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add `record`."""
    parser = add_command(
        commands,
        "record",
        _record,
        "Record a model's answers to your prompts, to compare others with them later",
        "tunesmith migrate record -m ft:gpt-4o-mini-2024-07-18:acme::AbC123 "
        "--validation valid.jsonl -O recordings --twice 0.2 --purpose evaluation "
        "--input-price 0.30 --output-price 1.20 --max-cost 5 --yes",
    )
    parser.add_argument(
        "-m",
        "--model",
        required=True,
        metavar="MODEL",
        help="the old model; on Azure its deployment",
    )
    parser.add_argument(
        "-O", "--output", metavar="DIR",
        help="folder of recordings; each model has its own in it (default: recordings, in the "
        "archive if there is one)",
    )  # fmt: skip
    add_prompt_options(parser)
    add_asking_options(parser)
    parser.add_argument(
        "--twice", type=float, default=0.2, metavar="SHARE",
        help="share of prompts to ask twice; how far the model agrees with itself is the ceiling "
        "of every comparison (default: 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--purpose", choices=("evaluation", "training"),
        help="what the answers will be used for; written down (default: you are asked)",
    )  # fmt: skip
    parser.add_argument(
        "--input-price", type=float, metavar="X", help="price of a million prompt tokens"
    )
    parser.add_argument(
        "--output-price", type=float, metavar="X", help="price of a million answered tokens"
    )
    parser.add_argument(
        "--batch", action="store_true",
        help="through the batch API: half the price, within a day; may be stopped and continued",
    )  # fmt: skip
    parser.add_argument("--max-cost", type=float, metavar="X", help="stop before spending more")
    parser.add_argument(
        "--max-tokens", type=whole_number(1), metavar="N", help="stop before using more"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="print the estimate and send nothing"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="start without asking")
    add_json_option(parser)
    add_azure_options(parser.add_argument_group("Azure"))
    add_connection_options(parser)


def _record(arguments: argparse.Namespace) -> int:
    from tunesmith.migrate import estimate_cost, record, record_batch

    prompts = chosen_prompts(arguments)
    folder, prices = _output(arguments), _prices(arguments)
    estimate = estimate_cost(
        arguments.model,
        prompts,
        folder,
        twice=arguments.twice,
        prices=prices,
        is_batch=arguments.batch,
    )
    print_notice(estimate_text(estimate))
    if arguments.estimate:
        return 0
    purpose: Purpose = arguments.purpose or _asked_purpose()
    if estimate.requests and not arguments.yes and not _agreed("Start?"):
        print_notice("Nothing was sent.")
        return 0
    with connect_azure(arguments) if arguments.azure else connect(arguments) as client:
        options: dict[str, Any] = {
            "purpose": purpose,
            "twice": arguments.twice,
            "settings": settings_of(arguments),
            "max_tokens": arguments.max_tokens,
            "max_cost": arguments.max_cost,
            "prices": prices,
            "on_progress": progress("recorded"),
        }
        if arguments.batch:
            print_notice(
                "Batches end within a day. Stop whenever you like: the same command goes on."
            )
            outcome = record_batch(client, arguments.model, prompts, folder, **options)
        else:
            options["concurrency"] = arguments.concurrency
            outcome = record(client, arguments.model, prompts, folder, **options)
    _print_outcome(outcome, arguments)
    return 0 if outcome.is_complete else 1


def _output(arguments: argparse.Namespace) -> Path:
    if arguments.output:
        return folder_of(arguments.output)
    return folder_of(arguments.archive or ".") / "recordings"


def estimate_text(estimate: CostEstimate) -> str:
    """Return an estimate in a sentence."""
    text = (
        f"{estimate.requests:,} requests to send ({estimate.reused:,} answers are there), about "
        f"{estimate.prompt_tokens:,} prompt tokens and {estimate.completion_tokens:,} answered ones"
    )
    if estimate.cost is None:
        return f"{text}. Give --input-price and --output-price for an estimate in money."
    digits = 2 if estimate.cost >= 1 else 4
    half = ", halved for the batch API" if estimate.is_batch else ""
    return f"{text}, about {estimate.cost:,.{digits}f} at your prices{half}."


def _prices(arguments: argparse.Namespace) -> Prices | None:
    from tunesmith.migrate import Prices

    if arguments.input_price is None and arguments.output_price is None:
        return None
    if arguments.input_price is None or arguments.output_price is None:
        raise TunesmithError("Prices come in two: --input-price and --output-price.")
    return Prices(arguments.input_price, arguments.output_price)


def _asked_purpose() -> Purpose:
    """Ask what the answers are for; where nobody can be asked, it has to be an option."""
    from tunesmith.migrate.recorder import TERMS

    if not sys.stdin.isatty():
        raise TunesmithError("Say what the answers will be used for: --purpose evaluation.")
    print_notice(TERMS)
    print_notice("What will the answers be used for: evaluation or training? [evaluation]")
    answer = sys.stdin.readline().strip().lower() or "evaluation"
    purposes: dict[str, Purpose] = {"evaluation": "evaluation", "training": "training"}
    if answer not in purposes:
        raise TunesmithError(f"{answer!r} is neither evaluation nor training.")
    return purposes[answer]


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise TunesmithError("Nobody can be asked here: add --yes to start.")
    print_notice(f"{question} [Y/n]")
    return sys.stdin.readline().strip().lower() in {"", "y", "yes"}


def _print_outcome(outcome: RecordOutcome, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json(
            {
                "folder": str(outcome.folder),
                "requests": outcome.requests,
                "reused": outcome.reused,
                "failed": outcome.failed,
                "prompt_tokens": outcome.prompt_tokens,
                "completion_tokens": outcome.completion_tokens,
                "cost": outcome.cost,
                "stopped": outcome.stopped,
                "errors": outcome.errors,
            }
        )
        return
    money = "" if outcome.cost is None else f", {outcome.cost:,.4f} at your prices"
    print(
        f"{outcome.folder}: {outcome.requests:,} requests now, {outcome.reused:,} answers from "
        f"before; {outcome.prompt_tokens:,} prompt tokens, {outcome.completion_tokens:,} answered "
        f"ones{money}."
    )
    for error, count in outcome.errors.items():
        print_notice(f"{count} times {error}")
    if outcome.stopped:
        print_notice(f"Stopped at {outcome.stopped}. The same command continues.")
    elif outcome.failed:
        print_notice(f"{outcome.failed} prompts have no answer yet. The same command asks again.")
