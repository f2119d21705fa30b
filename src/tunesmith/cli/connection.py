"""From the options of the command line to a client."""

from __future__ import annotations

import argparse
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.client import Client

__all__ = ["add_connection_options", "connect"]

OPTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("-b", "--api-base", "URL", "base URL of the API, with its /v1"),
    ("-k", "--api-key", "KEY", "API key; better kept in TUNESMITH_API_KEY"),
    ("-o", "--organization", "ID", "organisation to act for"),
    ("-p", "--proxy", "URL", "HTTP proxy to go through"),
)


def add_connection_options(parser: argparse.ArgumentParser, *, short: bool = False) -> None:
    """Add the options that say where requests go.

    They may stand before the command, in their short form too, or after it. What is not
    given is left out of the result, so that the later place does not undo the earlier.
    """
    group = parser.add_argument_group("connection")
    for letter, name, metavar, text in OPTIONS:
        names = (letter, name) if short else (name,)
        group.add_argument(*names, metavar=metavar, default=argparse.SUPPRESS, help=text)


def connect(arguments: argparse.Namespace) -> Client:
    """Return a client for the command's connection options and the environment.

    Raises:
        TunesmithError: An option or a variable of the environment is of no use.
    """
    from tunesmith.client import Client

    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG if arguments.verbose > 1 else logging.INFO)
    given: dict[str, Any] = {
        "base_url": getattr(arguments, "api_base", None),
        "api_key": getattr(arguments, "api_key", None),
        "organization": getattr(arguments, "organization", None),
    }
    if proxy := getattr(arguments, "proxy", None):
        os.environ.update(http_proxy=proxy, https_proxy=proxy)  # where the client looks for one
    return Client(**{name: value for name, value in given.items() if value is not None})
