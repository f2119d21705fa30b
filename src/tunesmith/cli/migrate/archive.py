"""`migrate inventory`, `pull` and `verify`: what there is, an archive of it, and its check."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunesmith.cli.output import add_json_option, print_json, print_notice, table
from tunesmith.cli.parser import add_command
from tunesmith.cli.progress_bar import progress_bar

from .options import INCOMPLETE, add_source_options, connect_source, named_projects

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tunesmith.cli.parser import Commands
    from tunesmith.migrate import Inventory, InventoryFile, PullReport

__all__ = ["register"]

# Gaps of one kind that are shown; --json shows all.
_SHOWN = 5


def register(group: Commands) -> None:
    """Add the commands."""
    inventory = add_command(
        group,
        "inventory",
        show_inventory,
        "List the fine-tuned models, when they end, and what can still be fetched of each",
        "tunesmith migrate inventory\n"
        "tunesmith migrate inventory --json\n"
        "tunesmith migrate inventory --azure https://acme.openai.azure.com",
    )
    add_json_option(inventory)
    add_source_options(inventory)
    pull = add_command(
        group,
        "pull",
        pull_archive,
        "Fetch files, jobs, events, results, stored completions and evals into an archive",
        "tunesmith migrate pull archive\n"
        "tunesmith migrate pull archive --project proj_A=KEY_A --project proj_B=KEY_B\n"
        "tunesmith migrate pull archive --azure https://acme.openai.azure.com",
    )
    pull.add_argument("folder", metavar="FOLDER", help="the archive; made if it does not exist")
    add_json_option(pull)
    add_source_options(pull)
    verify = add_command(
        group,
        "verify",
        verify_archive,
        "Check every file of an archive against its manifest, offline",
        "tunesmith migrate verify archive",
    )
    verify.add_argument("folder", metavar="FOLDER", help="the archive")
    add_json_option(verify)


def show_inventory(arguments: argparse.Namespace) -> int:
    """Print what an organisation has."""
    from tunesmith.migrate import inventory

    with connect_source(arguments) as client:
        found = inventory(client, projects=named_projects(arguments), workers=arguments.workers)
    if arguments.json:
        print_json(found.to_dict())
    else:
        _print_inventory(found)
    return 0


def _print_inventory(found: Inventory) -> None:
    header = [
        "days left", "ends", "answers", "last use", "base", "training file", "validation file",
        "model",
    ]  # fmt: skip
    rows = [
        [
            one.days_left,
            "unknown" if one.shutdown is None else one.shutdown.on.isoformat(),
            "yes" if one.answers else "no",
            "unknown" if one.last_use is None else one.last_use.isoformat(),
            one.base,
            _file(one.training_file),
            _file(one.validation_file),
            one.name,
        ]
        for one in found.models
    ]
    print(table(header, rows) if rows else "There are no fine-tuned models.")
    for what, counts in found.counts.items():
        named = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        print(f"{what}: {named or 'none'}")
    for project, sums in (found.costs or {}).items():
        amounts = ", ".join(f"{value:,.2f} {currency}" for currency, value in sums.items())
        print(f"fine-tuning in {project}, last 90 days: {amounts}")
    for text in _unknown(found):
        print(text)
    for gap in found.gaps:
        print_notice(f"Not read: {gap.what} of {gap.path}: {gap.status}: {gap.message}")


def _unknown(found: Inventory) -> Iterator[str]:
    """Say of what is not known why that is so, and who knows it."""
    is_azure = found.service == "azure"
    if found.costs is None:
        who = (
            "Azure's cost management has it, which is no part of this API"
            if is_azure
            else "an admin key in OPENAI_ADMIN_KEY reads it"
        )
        yield f"what fine-tuning has cost: unknown; {who}"
    if found.costs is None and any(one.last_use is None for one in found.models):
        who = (
            "Azure's metrics have the use of each deployment"
            if is_azure
            else "an admin key in OPENAI_ADMIN_KEY reads the others' use"
        )
        yield f"last use: only of models with stored completions; {who}"


def _file(file: InventoryFile | None) -> str:
    if file is None:
        return "none"
    size = "" if file.bytes is None else f", {file.bytes:,} bytes"
    answered = f" ({file.http_status})" if file.http_status else ""
    return f"{file.status}{answered}{size}"


def pull_archive(arguments: argparse.Namespace) -> int:
    """Fetch into an archive; 5 if something that is there could not be fetched."""
    from tunesmith.migrate import pull

    with connect_source(arguments) as client, progress_bar() as show:
        report = pull(
            client,
            arguments.folder,
            projects=named_projects(arguments),
            workers=arguments.workers,
            on_progress=lambda what, done, total: show(what, done, total) if total else None,
        )
    if arguments.json:
        content: dict[str, Any] = asdict(report)
        print_json(content | {"folder": str(report.folder), "is_complete": report.is_complete})
    else:
        _print_report(report)
    return 0 if report.is_complete else INCOMPLETE


def _print_report(report: PullReport) -> None:
    for name, count in report.counts.items():
        print(f"{name.replace('_', ' ')}: {count:,}")
    print(f"Fetched now: {report.added:,} files, {report.added_bytes:,} bytes.")
    kinds: Counter[tuple[str, str]] = Counter()
    for gap in report.gaps:
        kinds[gap.status, gap.what] += 1
        if kinds[gap.status, gap.what] <= _SHOWN:
            answered = f" ({gap.http_status})" if gap.http_status else ""
            print(f"{gap.status}{answered}: {gap.what} {gap.remote_id}: {gap.message}")
    for (status, what), count in sorted(kinds.items()):
        if count > _SHOWN:
            print(f"{status}: {count:,} of {what} in all.")
    for path, found in report.warnings.items():
        named = ", ".join(f"{kind} ({count})" for kind, count in found.items())
        print_notice(f"Looks like a pasted secret in {path}: {named}.")
    print_notice("The archive may hold personal data; it is readable by you alone.")
    if report.is_complete:
        print(f"The archive in {report.folder} is complete.")
    else:
        print(f"The archive in {report.folder} is incomplete; a further pull asks again.")


def verify_archive(arguments: argparse.Namespace) -> int:
    """Check an archive; 5 if it is incomplete or has changed."""
    from tunesmith.migrate.verify_archive import describe, verify

    result = verify(arguments.folder)
    if arguments.json:
        print_json(result.to_dict())
    else:
        print(describe(result))
    return 0 if result.is_complete else INCOMPLETE
