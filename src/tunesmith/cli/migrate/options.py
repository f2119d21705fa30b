"""What the commands of `migrate` share: which service, which projects, which keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tunesmith.cli.options import add_connection_options, connect, whole_number
from tunesmith.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from tunesmith.client import Client

__all__ = [
    "INCOMPLETE",
    "add_azure_options",
    "add_source_options",
    "connect_azure",
    "connect_source",
    "named_projects",
]

INCOMPLETE = 5
"""The exit code where an archive lacks what could have been fetched, or has changed."""
OPENAI_URL = "https://api.openai.com/v1"


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is read, and with which keys."""
    group = parser.add_argument_group("source")
    add_azure_options(group)
    group.add_argument(
        "--project", action="append", metavar="ID[=VARIABLE]", default=[],
        help="read this project; its key stands in the environment variable, without one the "
        "client's own key is used. Once for each project (default: that of the key, and with an "
        "admin key in OPENAI_ADMIN_KEY all that the key opens)",
    )  # fmt: skip
    group.add_argument(
        "--workers", type=whole_number(1), default=8, metavar="N",
        help="requests at a time; the service's limits are kept in any case (default: 8)",
    )  # fmt: skip
    add_connection_options(parser)


def add_azure_options(group: argparse._ActionsContainer) -> None:
    """Add the options that name an Azure resource."""
    group.add_argument(
        "--azure", metavar="ENDPOINT",
        help="an Azure resource, such as https://NAME.openai.azure.com; the key comes from "
        "AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN",
    )  # fmt: skip
    group.add_argument(
        "--api-version", metavar="VERSION", default="v1",
        help="Azure's API version: v1 for the addresses without one, or a date (default: v1)",
    )  # fmt: skip


def connect_source(arguments: argparse.Namespace) -> Client:
    """Return a client of the service: OpenAI's own unless another address was given.

    Raises:
        ConfigurationError: There is no key.
    """
    if arguments.azure:
        return connect_azure(arguments)
    from tunesmith.core.environment import environment

    if not (getattr(arguments, "api_base", None) or environment("BASE_URL")):
        arguments.api_base = OPENAI_URL
    return connect(arguments)


def connect_azure(arguments: argparse.Namespace) -> Client:
    """Return a client of the Azure resource that was named.

    Raises:
        ConfigurationError: There is no key.
    """
    from tunesmith.azure import AzureClient

    key = getattr(arguments, "api_key", None)
    options: dict[str, Any] = {} if key is None else {"api_key": key}
    return AzureClient(azure_endpoint=arguments.azure, api_version=arguments.api_version, **options)


def named_projects(arguments: argparse.Namespace) -> Mapping[str, str] | Sequence[str] | None:
    """Return the projects that were named, with their keys where variables hold some.

    Raises:
        ConfigurationError: A variable is empty, or only some of the projects have one.
    """
    pairs = [one.partition("=") for one in arguments.project]
    if not pairs:
        return None
    if not any(mark for _, mark, _ in pairs):
        return [project for project, _, _ in pairs]
    keys: dict[str, str] = {}
    for project, _, variable in pairs:
        key = os.environ.get(variable) if variable else None
        if not key:
            raise ConfigurationError(
                f"There is no key for {project}: write --project {project}=VARIABLE, with the key "
                "in that environment variable."
            )
        keys[project] = key
    return keys
