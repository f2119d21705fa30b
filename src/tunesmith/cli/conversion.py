"""`tunesmith tools convert`: write training data in another format; and the options for it."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from .output import print_notice
from .parser import add_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.datasets import Dataset, Location

    from .parser import Commands

__all__ = ["add_options", "register", "template_of"]

# The formats of `tunesmith.datasets.conversion`, so that help does not load them.
FORMATS = (
    "chat", "prompt_completion", "preference", "reinforcement", "alpaca", "sharegpt",
    "trl_preference", "trl_prompt_completion", "trl_prompt", "kto", "anthropic", "gemini",
    "question_answer", "input_output", "text",
)  # fmt: skip
EXAMPLES = 5
LOSS = "conversion-loss"
HARMLESS = {"blank-line", "control-character", "encoding-guessed", "sheets-ignored"}


def add_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add the options that say what rows become."""
    parser.add_argument(
        "--to", choices=FORMATS, metavar="FORMAT", required=required,
        help=f"format of the rows that are written: {', '.join(FORMATS)}",
    )  # fmt: skip
    parser.add_argument(
        "--template", action="append", type=_template, metavar="ROLE=TEXT", default=[],
        help="make the text of user, assistant or system (or of prompt and completion) of columns "
        "in braces; once for each: --template 'user={question}'",
    )  # fmt: skip


def register(group: Commands) -> argparse.ArgumentParser:
    """Add `tools convert` and return its parser."""
    parser = add_command(
        group,
        "convert",
        convert_data,
        "Write training data in another format: chat, Alpaca, ShareGPT, TRL, Anthropic, Gemini …",
        "tunesmith tools convert alpaca.json --to chat\n"
        "tunesmith tools convert train.jsonl --to sharegpt -o sharegpt.jsonl\n"
        "tunesmith tools convert table.csv --to chat --template 'user={title}: {body}' "
        "--template 'assistant={answer}'",
    )
    parser.add_argument("file", metavar="FILE", help="the training data")
    add_options(parser, required=True)
    parser.add_argument(
        "--from", dest="source", choices=FORMATS, metavar="FORMAT",
        help="format of the rows that are read (default: each row is recognised)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="JSONL to write (default: FILE_FORMAT.jsonl)"
    )
    parser.add_argument(
        "--partial", action="store_true", help="leave out the rows that cannot be converted"
    )
    return parser


def template_of(arguments: argparse.Namespace) -> Mapping[str, str] | None:
    """Return the templates by role, or None where none was given."""
    return dict(arguments.template) or None


def _template(text: str) -> tuple[str, str]:
    role, equals, template = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=TEXT")
    return role.strip(), template.replace("\\n", "\n")


def convert_data(arguments: argparse.Namespace) -> int:
    """Convert and write; 1 and nothing written where a row cannot be converted."""
    from tunesmith.datasets import Dataset, read
    from tunesmith.datasets.plan_execution import FixedRows
    from tunesmith.datasets.prompt_format import saved_format

    source = Path(arguments.file)
    dataset = read(
        source,
        format=arguments.input_format,
        encoding=arguments.encoding,
        sheet=arguments.sheet,
        template=template_of(arguments),
        prompt_format=saved_format(source),
    )
    found = dataset.data_format
    converted = dataset.convert(arguments.to, source=arguments.source)
    rows, failed = _summarise(converted, found)
    if failed and not arguments.partial:
        print_notice("Nothing was written. Repair these rows, or leave them out with --partial.")
        return 1
    if not rows:
        print_notice("Nothing was written: no row is left.")
        return 1
    target = Path(arguments.output) if arguments.output else _free_path(source, arguments.to)
    Dataset(FixedRows(converted.source, []), prompt_format=converted.prompt_format).write(target)
    print(f"{rows:,} {'row' if rows == 1 else 'rows'} of the format {arguments.to}: {target}")
    return 0


def _summarise(dataset: Dataset, found: str | None) -> tuple[int, int]:
    """Print what is left out and what cannot be converted; return rows that can and cannot."""
    rows = failed = 0
    losses: Counter[str] = Counter()
    examples: list[Location] = []
    for batch in dataset.source.batches():
        rows += len(batch.values)
        for fault in batch.faults:
            if fault.id == LOSS:
                losses[fault.location.message] += 1
            elif fault.id not in HARMLESS:
                failed += 1
                examples += [fault.location] if len(examples) < EXAMPLES else []
    print(f"Read as {found or 'rows of no known format'}.")
    for message, count in losses.most_common():
        print(f"In {count:,} {'row' if count == 1 else 'rows'}: {message}.")
    if failed:
        print_notice(f"{failed:,} {'row' if failed == 1 else 'rows'} cannot be converted:")
        for location in examples:
            print_notice(f"  {location}: {location.path} {location.message}".replace(":  ", ": "))
    return rows, failed


def _free_path(source: Path, target: str) -> Path:
    """Return a path beside the source that overwrites nothing."""
    path, number = source.with_name(f"{source.stem}_{target}.jsonl"), 0
    while path.exists():
        number += 1
        path = source.with_name(f"{source.stem}_{target} ({number}).jsonl")
    return path
