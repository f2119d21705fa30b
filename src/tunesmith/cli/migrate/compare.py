"""`tunesmith migrate compare`: old answers against new ones, with a requirement for a pipeline."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.atomic import write_atomically
from tunesmith.cli.options import add_connection_options, connect
from tunesmith.cli.output import add_json_option, print_notice, table
from tunesmith.cli.parser import add_command
from tunesmith.errors import TunesmithError

from .asked import add_asking_options, folder_of, progress, settings_of

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands
    from tunesmith.client import Client
    from tunesmith.migrate import Comparison, Recording, RequirementResult

__all__ = ["REQUIREMENT_NOT_MET", "register"]

REQUIREMENT_NOT_MET = 4
"""Exit code where a requirement is not met."""

_METRICS = ("rouge_l", "rouge_1", "rouge_2", "cosine", "fuzzy_match", "bleu", "gleu", "meteor")


def register(commands: Commands) -> None:
    """Add `compare`."""
    parser = add_command(
        commands,
        "compare",
        _compare,
        "Compare a new model's answers with an old one's recorded answers",
        "tunesmith migrate compare recordings/OLD --model ft:acme:local::Qn4RTPpz "
        '--html report.html --require "agreement>=0.95"\n'
        "tunesmith migrate compare recordings/OLD --with recordings/NEW --json",
    )
    parser.add_argument("old", metavar="DIR", help="the old model's recording")
    new = parser.add_mutually_exclusive_group(required=True)
    new.add_argument("-m", "--model", metavar="MODEL", help="ask this model the same prompts")
    new.add_argument("--with", dest="new", metavar="DIR", help="a second recording")
    parser.add_argument(
        "-O", "--output", metavar="DIR",
        help="with --model: folder of recordings to keep its answers in (default: not kept)",
    )  # fmt: skip
    add_asking_options(parser)
    parser.add_argument(
        "--grader", action="append", default=[], metavar="FILE",
        help="JSON of a grader, or a list of them, as the API takes them; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--run-python", action="store_true",
        help="run the source code of python graders, in a sandbox; read them first",
    )  # fmt: skip
    parser.add_argument(
        "--classes", metavar="A,B,…",
        help="the classes that answers name (default: recognised); empty for none",
    )  # fmt: skip
    parser.add_argument(
        "--similarity", choices=_METRICS, default="rouge_l",
        help="metric of text similarity (default: rouge_l)",
    )  # fmt: skip
    parser.add_argument(
        "--require", action="append", default=[], metavar="REQUIREMENT",
        help="what has to be shown by the bound of the interval, such as agreement>=0.95 or "
        "reference_match.difference>=-0.02; exit code 4 if it is not; repeatable",
    )  # fmt: skip
    parser.add_argument("--html", metavar="FILE", help="write a page that stands alone")
    parser.add_argument("--markdown", metavar="FILE", help="write Markdown")
    parser.add_argument("--json-file", metavar="FILE", help="write JSON with every case")
    parser.add_argument("--level", type=float, default=0.95, metavar="X", help="confidence")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the resampling")
    add_json_option(parser)
    add_connection_options(parser)


def _compare(arguments: argparse.Namespace) -> int:
    from tunesmith.migrate import Recording, check_requirement, compare, parse_requirement

    requirements = [parse_requirement(text) for text in arguments.require]
    graders = _graders(arguments.grader)
    old = Recording.read(folder_of(arguments.old))
    asks = any(_judges(grader) for grader in graders)
    options: dict[str, Any] = {
        "graders": graders,
        "run_python": arguments.run_python,
        "classes": _classes(arguments.classes),
        "similarity": arguments.similarity,
        "concurrency": arguments.concurrency,
        "level": arguments.level,
        "seed": arguments.seed,
    }
    if arguments.new is not None and not asks:
        comparison = compare(old, folder_of(arguments.new), **options)
    else:
        with connect(arguments) as client:
            new = (
                Recording.read(folder_of(arguments.new))
                if arguments.new is not None
                else _asked(client, old, arguments)
            )
            comparison = compare(old, new, client=client, **options)
    results = [check_requirement(requirement, comparison) for requirement in requirements]
    _write(comparison, results, arguments)
    return 0 if all(result.is_met for result in results) else REQUIREMENT_NOT_MET


def _asked(client: Client, old: Recording, arguments: argparse.Namespace) -> Recording:
    """Ask the new model every prompt of the old recording, as the old one was asked."""
    from tunesmith.migrate import Recording, record

    settings = {**_all_unset(), **old.facts.get("settings", {}), **settings_of(arguments)}
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as temporary:
        folder = folder_of(arguments.output) if arguments.output else Path(temporary)
        outcome = record(
            client,
            arguments.model,
            list(old.prompts.values()),
            folder,
            settings=settings,
            concurrency=arguments.concurrency,
            on_progress=progress(f"asked {arguments.model}"),
        )
        for error, count in outcome.errors.items():
            print_notice(f"{count} times {error}")
        return Recording.read(outcome.folder)


def _all_unset() -> dict[str, None]:
    """Return the usual settings as left out, so that those of the old recording are all."""
    from tunesmith.migrate.recorder import RECORDING_SETTINGS

    return dict.fromkeys(RECORDING_SETTINGS)


def _graders(paths: list[str]) -> list[dict[str, Any]]:
    graders: list[dict[str, Any]] = []
    for path in paths:
        try:
            found = json.loads(Path(path).expanduser().read_bytes())
        except ValueError as error:
            raise TunesmithError(f"{path} is no JSON: {error}.") from None
        for one in found if isinstance(found, list) else [found]:
            if not isinstance(one, dict):
                raise TunesmithError(f"{path} holds no grader: a grader is an object.")
            graders.append(cast("dict[str, Any]", one))
    return graders


def _judges(grader: dict[str, Any]) -> bool:
    parts = grader.get("graders") or {}
    inner: list[Any] = list(parts.values()) if isinstance(parts, dict) else list(parts)
    return any(
        isinstance(one, dict) and one.get("type") in {"score_model", "label_model"}
        for one in (grader, *inner)
    )


def _classes(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _write(
    comparison: Comparison, results: list[RequirementResult], arguments: argparse.Namespace
) -> None:
    from tunesmith.migrate import to_html, to_json, to_markdown
    from tunesmith.migrate.comparison_report import HEADER, rows_of, summary

    for path, text in (
        (arguments.html, to_html),
        (arguments.markdown, to_markdown),
        (arguments.json_file, to_json),
    ):
        if path is not None:
            with write_atomically(Path(path).expanduser()) as stream:
                stream.write(text(comparison, results).encode("utf-8", "replace"))
    if arguments.json:
        print(to_json(comparison, results, cases=20), end="")
    else:
        print(summary(comparison))
        print(table(HEADER, rows_of(comparison)))
        for warning in comparison.warnings:
            print_notice(warning)
    for result in results:
        print_notice(result.reason)
