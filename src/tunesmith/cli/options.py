"""Options that several commands share, and what they select: a client, a state folder, a database.

Also checks that an extra is installed before a command imports what it brings.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import MissingExtraError, TunesmithError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tunesmith.client import Client
    from tunesmith.engine.home import Home
    from tunesmith.engine.store.database import Database

__all__ = [
    "CONNECTION_OPTIONS",
    "add_connection_options",
    "add_database_option",
    "add_engine_option",
    "add_home_option",
    "connect",
    "get_home",
    "open_database",
    "require_engine",
    "require_extra",
    "whole_number",
]

_DIGITS = re.compile(r"[0-9]{1,18}")

# Short name, long name, metavar, help.
CONNECTION_OPTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("-b", "--api-base", "URL", "base URL of the API, with its /v1"),
    ("-k", "--api-key", "KEY", "API key; better kept in TUNESMITH_API_KEY"),
    ("-o", "--organization", "ID", "organisation to act for"),
    ("-p", "--proxy", "URL", "HTTP proxy to go through"),
)


def add_connection_options(parser: argparse.ArgumentParser, *, short: bool = False) -> None:
    """Add the options that say where requests go.

    They may stand before the command or after it. An option that was not used is left out
    of the namespace, so that its default after the command does not override a value before it.

    Args:
        parser: Where to add them.
        short: Add the short names as well.
    """
    group = parser.add_argument_group("connection")
    for letter, name, metavar, text in CONNECTION_OPTIONS:
        names = (letter, name) if short else (name,)
        group.add_argument(*names, metavar=metavar, default=argparse.SUPPRESS, help=text)


def connect(arguments: argparse.Namespace) -> Client:
    """Return a client for the command's connection options and the environment.

    Where neither names a URL, requests go to the engine that runs on the state folder.

    Raises:
        TunesmithError: An option or an environment variable is invalid.
    """
    from tunesmith.client import Client

    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG if arguments.verbose > 1 else logging.INFO)
    options: dict[str, Any] = {
        "base_url": getattr(arguments, "api_base", None) or _url_of_running_engine(arguments),
        "api_key": getattr(arguments, "api_key", None),
        "organization": getattr(arguments, "organization", None),
    }
    if proxy := getattr(arguments, "proxy", None):
        os.environ.update(http_proxy=proxy, https_proxy=proxy)  # where the client looks for one
    return Client(**{name: value for name, value in options.items() if value is not None})


def _url_of_running_engine(arguments: argparse.Namespace) -> str | None:
    """Return where the engine of the state folder answers, unless the environment names a URL.

    Raises:
        TunesmithError: `--home` names a state folder on which no engine runs.
    """
    from tunesmith.core.environment import environment

    folder: str | None = getattr(arguments, "home", None)
    if not folder and (environment("BASE_URL") or find_spec("platformdirs") is None):
        return None
    from tunesmith.engine.home import Home
    from tunesmith.engine.server_lock import find_running_server

    home = Home(Path(folder).expanduser().absolute()) if folder else Home.from_environment()
    server = find_running_server(home)
    if folder and (server is None or server.url is None):
        raise TunesmithError(
            f"No engine runs on the state folder {home.root}. Start one with: tunesmith serve "
            f"--home {shlex.quote(folder)}"
        )
    return None if server is None else server.url


def add_home_option(parser: argparse.ArgumentParser) -> None:
    """Add `--home`."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="the engine's state folder (default: TUNESMITH_HOME, else your user data folder)",
    )


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Add `--home` where it selects the engine that requests go to."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="ask the engine that runs on this state folder (default: that of TUNESMITH_HOME or "
        "your user data folder, where no URL is set)",
    )


def get_home(arguments: argparse.Namespace) -> Home:
    """Return the state folder that the command is to use.

    Raises:
        MissingExtraError: The extra `engine` is not installed.
    """
    require_extra("The engine's state folder", "engine", "platformdirs")
    from tunesmith.engine.home import Home

    if arguments.home:
        return Home(Path(arguments.home).expanduser().absolute())
    return Home.from_environment()


def add_database_option(parser: argparse.ArgumentParser) -> None:
    """Add `--database-url`. The environment is the better place for it: it may hold a password."""
    parser.add_argument(
        "--database-url",
        metavar="URL",
        default=os.environ.get("TUNESMITH_DATABASE_URL"),
        help="postgresql://… or sqlite:///… (default: TUNESMITH_DATABASE_URL, else SQLite in the "
        "state folder)",
    )


@contextmanager
def open_database(arguments: argparse.Namespace) -> Generator[tuple[Home, Database]]:
    """Open the engine's database, brought up to this version's schema; close it at the end.

    Yields:
        The state folder and the database that the command's options and the engine's settings
        file select.

    Raises:
        EngineError: Neither an option nor the environment names a state folder, and no engine has
            used the default one; or the settings file cannot be read.
        MissingExtraError: The extra `engine` is not installed.
    """
    require_engine()
    home = get_home(arguments)
    from tunesmith.engine.config_file import load_config
    from tunesmith.engine.domain.errors import EngineError
    from tunesmith.engine.store.database import Database

    is_named = arguments.home or os.environ.get("TUNESMITH_HOME") or arguments.database_url
    if not is_named and not home.root.exists():
        raise EngineError(
            f"No engine has used the default state folder {home.root}. Name the folder of yours "
            "with --home; `tunesmith serve` prints it when it starts. To prepare an engine before "
            "its first start, name the folder that it is going to use."
        )
    home.make_private()
    url = arguments.database_url
    config = load_config(home, **({} if url is None else {"database_url": url}))
    database = Database(config.database)
    try:
        database.migrate()
        yield home, database
    finally:
        database.close()


def whole_number(least: int) -> Callable[[str], int]:
    """Return the `type` of an option that counts: digits alone, and no number below `least`."""

    def number_of(text: str) -> int:
        if not _DIGITS.fullmatch(text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return int(text)

    return number_of


def require_extra(feature: str, extra: str, *modules: str) -> None:
    """Check that modules of an extra can be imported, without importing them.

    Raises:
        MissingExtraError: One cannot; the message says what to install.
    """
    if any(find_spec(module) is None for module in modules):
        raise MissingExtraError(feature, extra)


def require_engine(feature: str = "The embedded engine") -> None:
    """Check that the extra `engine` is installed.

    Raises:
        MissingExtraError: It is not.
    """
    require_extra(feature, "engine", "fastapi", "platformdirs", "sqlalchemy", "torch", "uvicorn")
