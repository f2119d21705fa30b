"""`tunesmith tools`: prepare and check training data, without a server."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

from tunesmith.progress.text import printable

from . import conversion
from .options import whole_number
from .output import WIDEST, print_notice
from .parser import add_command, add_group

if TYPE_CHECKING:
    import argparse

    from tunesmith.datasets import Report

    from .parser import Commands

__all__ = ["register"]

PROFILES = ("engine", "openai", "azure", "together", "fireworks", "mistral", "mistral-finetune")
SHAPES = ("prompt_completion", "chat", "preference", "reinforcement")
INPUT_FORMATS = ("jsonl", "json", "csv", "tsv", "txt", "xlsx", "parquet")
FORMATS = ("text", "json", "markdown", "sarif")
YES, NO = {"y", "yes"}, {"n", "no"}


def register(commands: Commands) -> None:
    """Add `tools`."""
    group = add_group(commands, "tools", "Prepare and check training data")
    prepare = add_command(
        group,
        "fine_tunes.prepare_data",
        prepare_data,
        "Guide a file of examples to training data: CSV, TSV, XLSX, JSON, JSONL, TXT or Parquet",
        "tunesmith tools fine_tunes.prepare_data -f data.csv\n"
        "tunesmith tools fine_tunes.prepare_data -q -f data.csv --prompt text --completion label\n"
        "tunesmith tools fine_tunes.prepare_data -f alpaca.json --to chat",
    )
    prepare.add_argument("-f", "--file", required=True, metavar="FILE", help="the examples")
    prepare.add_argument(
        "-q", "--quiet", action="store_true", help="accept every recommendation without asking"
    )
    prepare.add_argument(
        "--bom", action="store_true", help="start the files with a byte order mark, for Azure"
    )
    prepare.add_argument("--prompt", metavar="COLUMN", help="column of the prompts")
    prepare.add_argument("--completion", metavar="COLUMN", help="column of the completions")
    _add_reading_options(prepare)
    conversion.add_options(prepare)
    _add_reading_options(conversion.register(group))

    check = add_command(
        group,
        "check",
        check_data,
        "Check training data as its destination will read it",
        "tunesmith tools check train.jsonl\n"
        "tunesmith tools check train.jsonl --validation valid.jsonl --profile openai --json",
    )
    check.add_argument("file", metavar="FILE", help="the training data")
    check.add_argument("--validation", metavar="FILE", help="validation data, compared with it")
    check.add_argument(
        "--profile", choices=PROFILES, default="engine",
        help="where the data will be used (default: engine)",
    )  # fmt: skip
    check.add_argument("--shape", choices=SHAPES, help="format of the rows (default: detected)")
    check.add_argument(
        "-m", "--model", metavar="MODEL", help="model whose token limit and encoding apply"
    )
    check.add_argument(
        "--max-examples", type=whole_number(0), default=5, metavar="N",
        help="locations shown for each finding; 0 for all (default: 5)",
    )  # fmt: skip
    check.add_argument("--tokens", action="store_true", help="count the tokens of every row")
    check.add_argument("--format", choices=FORMATS, default="text", help="of the report")
    check.add_argument(
        "--json", dest="format", action="store_const", const="json", help="same as --format json"
    )
    check.add_argument(
        "--baseline", metavar="FILE",
        help="earlier JSON report: fail only on errors and warnings that are new or more frequent",
    )  # fmt: skip
    _add_reading_options(check)


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how the file is to be read."""
    parser.add_argument(
        "--input-format", choices=INPUT_FORMATS, help="format of the file (default: detected)"
    )
    parser.add_argument(
        "--encoding", metavar="NAME",
        help="encoding of a text file, such as gbk or cp1252 (default: detected, else utf-8)",
    )  # fmt: skip
    parser.add_argument(
        "--sheet", metavar="NAME", help="sheet of a workbook (default: the first not hidden)"
    )


def prepare_data(arguments: argparse.Namespace) -> int:
    """Run the guided preparation; 0 also if the user decided to write nothing.

    Where nobody was asked, nothing written means that the data has errors: 1.
    """
    from tunesmith.datasets.prepare import prepare_data

    prepared = prepare_data(
        arguments.file,
        Terminal(quiet=arguments.quiet),
        format=arguments.input_format,
        encoding=arguments.encoding,
        sheet=arguments.sheet,
        prompt=arguments.prompt,
        completion=arguments.completion,
        template=conversion.template_of(arguments),
        to=arguments.to,
        byte_order_mark=arguments.bom,
    )
    return 1 if prepared is None and arguments.quiet else 0


class Terminal:
    """Asks questions on the terminal or through a pipe, or answers them itself.

    Args:
        quiet: Accept every recommendation.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Print a paragraph."""
        print(printable(text), flush=True)

    def ask(self, question: str, *, default: bool) -> bool:
        """Return the answer; an empty line or no answer means the default, in capitals."""
        choice = "[Y/n]" if default else "[y/N]"
        if self._quiet:
            self._print_default(question, choice, default=default)
            return default
        while True:
            print(f"{printable(question)} {choice}: ", end="", flush=True)
            answer = sys.stdin.readline()
            if not answer:
                return self._answer_at_end_of_input(default=default)
            if not sys.stdin.isatty():
                print(answer.strip())  # so that a log shows what was piped in
            word = answer.strip().casefold()
            if not word:
                return default
            if word in YES | NO:
                return word in YES
            self.say("Please answer yes or no.")

    def _print_default(self, question: str, choice: str, *, default: bool) -> None:
        self.say(f"{question} {choice}: {'Y' if default else 'N'}")

    def _answer_at_end_of_input(self, *, default: bool) -> bool:
        """Continue with the default where nobody can answer; Ctrl-D on a terminal interrupts."""
        if sys.stdin.isatty():
            raise KeyboardInterrupt
        print("Y" if default else "N")
        return default


def check_data(arguments: argparse.Namespace) -> int:
    """Check and print the report; return 1 on an error (with a baseline: on a new finding)."""
    from tunesmith.datasets import check_file, read
    from tunesmith.datasets.baseline import findings_beyond, load_baseline
    from tunesmith.datasets.overlap import overlap_findings
    from tunesmith.datasets.prompt_format import saved_format

    baseline = load_baseline(arguments.baseline) if arguments.baseline else None
    reading = {
        "format": arguments.input_format,
        "encoding": arguments.encoding,
        "sheet": arguments.sheet,
    }
    report = check_file(
        arguments.file,
        arguments.profile,
        shape=arguments.shape,
        prompt_format=saved_format(arguments.file),
        model=arguments.model,
        max_examples=arguments.max_examples,
        count_tokens=arguments.tokens,
        **reading,
    )
    if arguments.validation:
        report.findings += overlap_findings(
            read(arguments.file, **reading).readable_rows(),
            read(arguments.validation, **reading).readable_rows(),
            arguments.max_examples,
        )
        report.sort()
    print(_render(report, arguments.format))
    if baseline is None:
        return 0 if report.ok else 1
    new_findings = findings_beyond(report, baseline)
    for finding in new_findings:
        print_notice(f"New since the baseline: {finding.id}: {finding.message}")
    return 1 if new_findings else 0


def _render(report: Report, output_format: str) -> str:
    if output_format == "json":
        return report.to_json()
    if output_format == "markdown":
        return report.to_markdown()
    if output_format == "sarif":
        return json.dumps(report.to_sarif(), indent=2)
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = report.to_text(width, colour=colour).rstrip()
    return text if colour else printable(text)
