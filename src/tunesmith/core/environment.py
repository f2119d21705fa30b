"""A client's settings from its arguments or, where those are omitted, the environment.

Variables are read as TUNESMITH_… first, then as OPENAI_…, so that code and machines set up
for the official client need no changes. An empty variable counts as unset.
"""

from __future__ import annotations

import base64
import os
import platform
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from tunesmith._version import __version__
from tunesmith.errors import ConfigurationError

from .headers import update_fields
from .redact import Login, Secret
from .urls import is_loopback_url, shown_url, without_userinfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .settings import Credential

__all__ = [
    "DEFAULT_BASE_URL",
    "NO_KEY",
    "BaseURL",
    "admin_credential",
    "base_headers",
    "check_count",
    "checked_key",
    "credential",
    "environment",
    "login",
    "lowercase_names",
    "organization_headers",
    "server_url",
    "without_user_headers",
]

DEFAULT_BASE_URL = "http://127.0.0.1:8712/v1"
"""Where the embedded engine listens by default."""

_BUILT_IN = frozenset(
    {
        "accept",
        "accept-encoding",
        "openai-organization",
        "openai-project",
        "user-agent",
        "x-stainless-lang",
    }
)

NO_KEY: Final = Secret("local")
"""Sent to a server on this machine if no key is given."""


def environment(name: str, *, fallback: str | None = None) -> str | None:
    """Return TUNESMITH_`name` from the environment, else OPENAI_`fallback`; empty is unset."""
    return (
        os.environ.get(f"TUNESMITH_{name}") or os.environ.get(f"OPENAI_{fallback or name}") or None
    )


class BaseURL(NamedTuple):
    """A base URL in two parts.

    Attributes:
        url: Scheme, host and path, without user name, password and trailing slash.
        query: What follows the "?", which every request has.
    """

    url: str
    query: str


def server_url(base_url: str | None) -> BaseURL:
    """Return the base URL.

    Raises:
        ConfigurationError: The base URL is invalid.
    """
    text = _given_url(base_url)
    address, _, query = text.partition("#")[0].partition("?")
    url = without_userinfo(address).rstrip("/")
    if not _is_server(url) or any(sign.isspace() or not sign.isprintable() for sign in text):
        raise ConfigurationError(
            f"The base URL {_shown_invalid(text)!r} is invalid. Pass base_url (or set "
            f"TUNESMITH_BASE_URL) like {DEFAULT_BASE_URL!r}. Special characters in a user name or "
            "password must be percent-encoded."
        )
    return BaseURL(url, query.strip("&"))


def _shown_invalid(text: str) -> str:
    """Return an invalid URL for messages: its parts may be shifted by signs in a password."""
    scheme, _, rest = text.partition("://")
    return f"{scheme}://…@{rest.rpartition('@')[2]}" if "@" in rest else shown_url(text)


def _is_server(url: str) -> bool:
    """Return whether the URL has a scheme of HTTP, a host, and a port that exists if any."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_count(name: str, value: int | None) -> None:
    """Raise if a setting is not a whole number of 1 or more, or None for its default.

    Raises:
        ConfigurationError: It is neither.
    """
    given: Any = value
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigurationError(f"{name} is a whole number of 1 or more, not {given!r:.80}.")


def login(base_url: str | None) -> Login | None:
    """Return user name and password of the base URL, None if it has none."""
    url = _given_url(base_url)
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return None
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return Login(base64.b64encode(pair.encode("utf-8", "surrogatepass")).decode())


def _given_url(base_url: str | None) -> str:
    # A line break comes along when a URL is read from a file.
    return str(base_url or environment("BASE_URL") or DEFAULT_BASE_URL).strip()


def credential(
    api_key: str | Credential | Callable[[], str | Awaitable[str]] | None,
    base_url: str,
    url_login: Login | None = None,
) -> Credential:
    """Return the API key, the function that provides it, or the login of the base URL.

    Raises:
        ConfigurationError: The key is invalid, or missing for a server on another machine; or both
            a key and a login are given.
    """
    if url_login is not None:
        # Both go into the field Authorization; a key of the environment is not meant for this URL.
        if api_key is not None:
            raise ConfigurationError(
                "base_url contains a user name and password, and api_key is given as well, but "
                "only one of them can be sent as Authorization. Drop one; a second credential "
                "can be sent in default_headers under another name."
            )
        return url_login
    if isinstance(api_key, Secret) or callable(api_key):
        return api_key
    key = checked_key(api_key or environment("API_KEY"))
    if key is not None:
        return key
    if is_loopback_url(base_url):
        return NO_KEY
    raise ConfigurationError(
        f"There is no API key for {shown_url(base_url)}. Pass api_key, or set TUNESMITH_API_KEY or "
        "OPENAI_API_KEY in the environment."
    )


def admin_credential(admin_api_key: str | None) -> Secret | None:
    """Return the administrator's key, None if there is none."""
    return checked_key(admin_api_key or environment("ADMIN_KEY"))


def checked_key(text: object) -> Secret | None:
    """Return a key without the spaces and line breaks around it; None if nothing is left.

    Raises:
        ConfigurationError: It is no text, or contains what no header field can carry.
    """
    if not isinstance(text, str | None):
        raise ConfigurationError(
            f"An API key is text or a function that returns it, not {type(text).__name__}."
        )
    key = (text or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(
            "The API key contains characters that no key has. It may have been copied incorrectly."
        )
    return Secret(key) if key else None


def base_headers(
    organization: str | None, project: str | None, default_headers: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the header fields that every request has, by lower-case name."""
    fields = {
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": _user_agent(),
        # Servers and proxies that count the languages of their clients read this field.
        "x-stainless-lang": "python",
        **_custom_headers(),
        **organization_headers(
            organization or environment("ORG_ID"), project or environment("PROJECT_ID")
        ),
    }
    update_fields(fields, default_headers)
    return fields


def lowercase_names(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return header fields with their names in lower case; those marked `omit` are left out.

    Raises:
        ConfigurationError: A field cannot be sent.
    """
    fields: dict[str, str] = {}
    update_fields(fields, headers)
    return fields


def organization_headers(organization: str | None, project: str | None) -> dict[str, str]:
    """Return the header fields for the organisation and the project, where they are set."""
    fields = {"openai-organization": organization, "openai-project": project}
    return lowercase_names({name: value for name, value in fields.items() if value})


def without_user_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the header fields without the user's own defaults."""
    return {name: value for name, value in headers.items() if name in _BUILT_IN}


def _custom_headers() -> dict[str, str]:
    """Return the fields of CUSTOM_HEADERS: one `Name: value` per line."""
    lines = (environment("CUSTOM_HEADERS") or "").splitlines()
    fields = (line.partition(":") for line in lines if ":" in line)
    return lowercase_names({name.strip(): value for name, _, value in fields})


def _user_agent() -> str:
    return f"tunesmith/{__version__} Python/{platform.python_version()}"
