"""`migrate verify`: check an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.cli.output import add_json_option, print_json
from tunesmith.cli.parser import add_command

if TYPE_CHECKING:
    import argparse

    from tunesmith.cli.parser import Commands

__all__ = ["INCOMPLETE", "register"]

INCOMPLETE = 5
"""The exit code where an archive lacks what could have been fetched, or has changed."""


def register(group: Commands) -> None:
    """Add the commands."""
    verify = add_command(
        group,
        "verify",
        verify_archive,
        "Check every file of an archive against its manifest, offline",
        "tunesmith migrate verify archive",
    )
    verify.add_argument("folder", metavar="FOLDER", help="the archive")
    add_json_option(verify)


def verify_archive(arguments: argparse.Namespace) -> int:
    """Check an archive; 5 if it is incomplete or has changed."""
    from tunesmith.migrate.verify import describe, verify

    result = verify(arguments.folder)
    if arguments.json:
        print_json(result.to_dict())
    else:
        print(describe(result))
    return 0 if result.is_complete else INCOMPLETE
