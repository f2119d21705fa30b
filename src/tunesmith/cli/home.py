"""`--home`: the engine's state folder, for the commands that work on it directly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from tunesmith.engine.home import Home

__all__ = ["add_database_option", "add_home_option", "home_of"]


def add_home_option(parser: argparse.ArgumentParser) -> None:
    """Add `--home`."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="the engine's state folder (default: TUNESMITH_HOME, else your user data folder)",
    )


def add_database_option(parser: argparse.ArgumentParser) -> None:
    """Add `--database-url`. The environment is the better place for it: it may hold a password."""
    parser.add_argument(
        "--database-url",
        metavar="URL",
        default=os.environ.get("TUNESMITH_DATABASE_URL"),
        help="postgresql://… or sqlite:///… (default: TUNESMITH_DATABASE_URL, else SQLite in the "
        "state folder)",
    )


def home_of(arguments: argparse.Namespace) -> Home:
    """Return the state folder that the command is to use."""
    from tunesmith.engine.home import Home

    if arguments.home:
        return Home(Path(arguments.home).expanduser().absolute())
    return Home.from_environment()
