"""A client's settings from its arguments and, where those are left out, the environment.

Variables are read as TUNESMITH_… first, then as OPENAI_…, so that code and machines set up
for the official client need no change. An empty variable counts as unset.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tunesmith.errors import ConfigurationError

from .redact import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .settings import Credential

__all__ = [
    "DEFAULT_BASE_URL",
    "NO_KEY",
    "admin_credential",
    "base_headers",
    "credential",
    "environment",
    "lowercase_names",
    "organization_headers",
    "server_url",
    "without_user_headers",
]

DEFAULT_BASE_URL = "http://127.0.0.1:8712/v1"
"""Where the embedded engine listens unless told otherwise."""

NO_KEY: Final = Secret("local")
"""Sent to a server on this machine where no key is given."""


def environment(name: str, *, fallback: str | None = None) -> str | None:
    """Return TUNESMITH_`name` from the environment, else OPENAI_`fallback`; empty is unset."""
    return (
        os.environ.get(f"TUNESMITH_{name}") or os.environ.get(f"OPENAI_{fallback or name}") or None
    )


def server_url(given: str | None) -> str:
    """Return the base URL without a slash at its end.

    Raises:
        ConfigurationError: It is no address of a server.
    """
    url = str(given or environment("BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{url!r} is no address of a server. Give base_url (or TUNESMITH_BASE_URL) like "
            f"{DEFAULT_BASE_URL!r}."
        )
    return url


def credential(
    given: str | Credential | Callable[[], str | Awaitable[str]] | None, base_url: str
) -> Credential:
    """Return the API key, or the function that provides it.

    Raises:
        ConfigurationError: There is none for a server elsewhere, or it is no key.
    """
    if isinstance(given, Secret) or callable(given):
        return given
    key = _key(given or environment("API_KEY"))
    if key is not None:
        return key
    if _is_local(base_url):
        return NO_KEY
    raise ConfigurationError(
        f"There is no API key for {base_url}. Give api_key, or set TUNESMITH_API_KEY or "
        "OPENAI_API_KEY in the environment."
    )


def admin_credential(given: str | None) -> Secret | None:
    """Return the administrator's key, None where there is none."""
    return _key(given or environment("ADMIN_KEY"))


def _key(text: str | None) -> Secret | None:
    key = (text or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(
            "The API key holds characters that no key has. It may have been copied wrongly."
        )
    return Secret(key) if key else None


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def base_headers(
    organization: str | None, project: str | None, given: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the header fields of every request, by lower-case name."""
    return {
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": _user_agent(),
        **_custom_headers(),
        **organization_headers(
            organization or environment("ORG_ID"), project or environment("PROJECT_ID")
        ),
        **lowercase_names(given),
    }


def lowercase_names(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return header fields by lower-case name."""
    return {name.lower(): value for name, value in (headers or {}).items()}


def organization_headers(organization: str | None, project: str | None) -> dict[str, str]:
    """Return the header fields that name an organisation and a project."""
    named = {"openai-organization": organization, "openai-project": project}
    return {name: value for name, value in named.items() if value}


def without_user_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that are not the user's default ones."""
    own = {"accept", "accept-encoding", "user-agent", "openai-organization", "openai-project"}
    return {name: value for name, value in headers.items() if name in own}


def _custom_headers() -> dict[str, str]:
    """Return the fields of CUSTOM_HEADERS: one `Name: value` a line."""
    lines = (environment("CUSTOM_HEADERS") or "").splitlines()
    fields = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in fields}


def _user_agent() -> str:
    from tunesmith._version import __version__

    return f"tunesmith/{__version__} Python/{platform.python_version()}"
