"""The settings of one client, and the URLs of an Azure endpoint, which are one of them.

Immutable: clones of a client have changed copies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .options import DEFAULT_TIMEOUT, Timeout
from .redact import Login, Secret, redacted_headers
from .request import fill_path

if TYPE_CHECKING:
    from .hooks import Hooks
    from .request import RequestSpec
    from .retry import RetryPolicy

__all__ = ["AzureEndpoint", "Credential", "Settings"]

# The hosted service accepts only an administrator's key for these.
_ADMIN_PATHS = ("/fine_tuning/checkpoints/", "/organization/")

Credential = Secret | Callable[[], str | Awaitable[str]]

_DEPLOYMENT_PATHS = frozenset({"/completions", "/chat/completions"})


@dataclass(frozen=True, slots=True)
class AzureEndpoint:
    """An endpoint, and the deployment that serves its completions.

    Attributes:
        root: The endpoint with "/openai" or "/openai/v1", without a trailing slash.
        deployment: The deployment's name; None uses each request's model as its name.
        dated: Whether the URLs name the deployment and requests an `api-version`; those below
            "/openai/v1" do neither.
    """

    root: str
    deployment: str | None = None
    dated: bool = True

    def url(self, spec: RequestSpec) -> str:
        """Return the URL of a request."""
        # A list of stored completions is no deployment's.
        named = self.dated and spec.path in _DEPLOYMENT_PATHS and spec.method == "POST"
        if not named:
            return self.root + spec.path
        model = self.deployment or str((spec.json or {}).get("model") or "")
        return self.root + fill_path("/deployments/{model}", model=model) + spec.path


@dataclass(frozen=True)
class Settings:
    """The settings that all requests of a client share.

    Attributes:
        base_url: Without a trailing slash and without its query.
        credential: The API key, or a function that returns it, called for each request.
        headers: Header fields by lower-case name, without the key.
        key_header: The field that carries the key: "authorization" or "api-key".
        require_stream_end: Whether a stream without `[DONE]` is an error.
        admin_key: Sent instead of the credential for administrators' operations.
        azure: The URLs of operations on an Azure endpoint.
        base_query: The query of the base URL, which every request has.
    """

    base_url: str
    credential: Credential | None
    retry: RetryPolicy
    headers: Mapping[str, str] = field(default_factory=dict)
    default_query: Mapping[str, object] = field(default_factory=dict)
    timeout: Timeout = DEFAULT_TIMEOUT
    key_header: str = "authorization"
    hooks: Hooks | None = None
    require_stream_end: bool = True
    admin_key: Secret | None = None
    azure: AzureEndpoint | None = None
    base_query: str = ""

    def credential_for(self, path: str) -> Credential | None:
        """Return the credential of an operation."""
        if self.admin_key is not None and path.startswith(_ADMIN_PATHS):
            return self.admin_key
        return self.credential

    def credential_headers(self, key: Secret) -> dict[str, str]:
        """Return the header field that carries the key."""
        if self.key_header == "authorization" or isinstance(key, Login):
            return {"authorization": f"{key.scheme} {key.reveal()}"}
        return {self.key_header: key.reveal()}

    def __repr__(self) -> str:
        headers = redacted_headers(self.headers.items())
        return f"Settings(base_url={self.base_url!r}, headers={headers})"
