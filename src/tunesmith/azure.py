"""Clients for Azure OpenAI: deployments in the URL, `api-version`, keys or AD tokens.

Azure has two forms of addresses. Below `{endpoint}/openai/v1` they are those of OpenAI, and the
model of a request is the deployment's name; the older ones name the deployment in the URL and a
dated `api-version` in the query.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tunesmith.core.environment import login, server_url
from tunesmith.core.settings import AzureEndpoint
from tunesmith.core.urls import with_query

from ._lazy import set_public_module
from .client import AsyncClient, Client
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["AsyncAzureClient", "AzureClient"]

_PATH = "/openai"
_V1 = "v1"


class _AzureSettings:
    """The settings of an Azure client; those omitted come from the environment."""

    def __init__(
        self,
        azure_endpoint: str | None,
        azure_deployment: str | None,
        api_version: str | None,
        api_key: str | None,
        azure_ad_token: str | Callable[[], str | Awaitable[str]] | None,
    ) -> None:
        endpoint = azure_endpoint or os.environ.get("AZURE_OPENAI_ENDPOINT")
        version = api_version or _version_in(endpoint or "") or _undated(endpoint or "")
        version = version or os.environ.get("OPENAI_API_VERSION")
        if not endpoint:
            raise ConfigurationError(
                "There is no Azure endpoint. Pass azure_endpoint, or set AZURE_OPENAI_ENDPOINT."
            )
        if not version:
            raise ConfigurationError(
                "There is no Azure API version. Pass api_version, or set OPENAI_API_VERSION: "
                "'v1', or a date such as '2024-10-21'."
            )
        token = azure_ad_token or os.environ.get("AZURE_OPENAI_AD_TOKEN")
        key = api_key or (None if token else os.environ.get("AZURE_OPENAI_API_KEY"))
        if not (key or token):
            raise ConfigurationError(
                "There is no credential for Azure. Pass api_key or azure_ad_token, or set "
                "AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN."
            )
        dated = version != _V1
        self.query_of_version: dict[str, object] = {"api-version": version} if dated else {}
        self.credential = key or token
        self.key_header = "api-key" if key else "authorization"
        root, self.query = server_url(endpoint)
        if login(endpoint) is not None:
            raise ConfigurationError(
                f"The Azure endpoint for {root} contains a user name and password, which Azure "
                "does not take. Pass api_key or azure_ad_token."
            )
        if not dated:
            root = root.removesuffix(f"/{_V1}")
            if azure_deployment is not None:
                raise ConfigurationError(
                    "With api_version 'v1' no deployment stands in the URL. Pass its name as the "
                    "model of each request, not as azure_deployment."
                )
        if f"{_PATH}/" in root:
            raise ConfigurationError(
                f"The Azure endpoint {root} is the URL of one operation. The endpoint ends before "
                f"{_PATH!r}; a deployment is passed as azure_deployment."
            )
        self.root = root if root.endswith(_PATH) else root + _PATH
        if not dated:
            self.root += f"/{_V1}"
        self.url = with_query(self.root, self.query, "")
        self.endpoint = AzureEndpoint(self.root, azure_deployment, dated=dated)

    def apply(self, client: Any) -> None:
        """Add the Azure settings to a client that has read the others."""
        settings = client._settings  # noqa: SLF001 - the client under construction
        client._executor.settings = replace(  # noqa: SLF001
            settings, key_header=self.key_header, azure=self.endpoint
        )


def _version_in(endpoint: str) -> str | None:
    """Return the API version in the query of an endpoint's URL, None if there is none."""
    return dict(parse_qsl(urlsplit(endpoint).query)).get("api-version")


def _undated(endpoint: str) -> str | None:
    """Return "v1" if the endpoint's URL is the root of the addresses without a version."""
    return _V1 if urlsplit(endpoint).path.rstrip("/").endswith(f"{_PATH}/{_V1}") else None


class AzureClient(Client):
    """A `Client` for an Azure OpenAI endpoint."""

    def __init__(
        self,
        *,
        azure_endpoint: str | None = None,
        azure_deployment: str | None = None,
        api_version: str | None = None,
        api_key: str | None = None,
        azure_ad_token: str | None = None,
        azure_ad_token_provider: Callable[[], str | Awaitable[str]] | None = None,
        default_query: Mapping[str, object] | None = None,
        **settings: Any,
    ) -> None:
        """Read the settings; those omitted come from the environment.

        Args:
            azure_endpoint: "https://….openai.azure.com", from AZURE_OPENAI_ENDPOINT; with
                "/openai/v1" at its end the addresses have no version.
            azure_deployment: The deployment that serves completions; by default the one named as
                each request's model.
            api_version: "v1" for the addresses below "/openai/v1", or a date for the older ones,
                such as "2024-10-21". From OPENAI_API_VERSION.
            api_key: From AZURE_OPENAI_API_KEY.
            azure_ad_token: A Microsoft Entra token, from AZURE_OPENAI_AD_TOKEN.
            azure_ad_token_provider: Returns a token; called for each request.
            default_query: Query parameters for each request.
            settings: As for `Client`.

        Raises:
            ConfigurationError: There is no endpoint, version or credential.
        """
        azure = _AzureSettings(
            azure_endpoint,
            azure_deployment,
            api_version,
            api_key,
            azure_ad_token_provider or azure_ad_token,
        )
        query = {**azure.query_of_version, **(default_query or {})}
        super().__init__(azure.credential, base_url=azure.url, default_query=query, **settings)
        azure.apply(self)


class AsyncAzureClient(AsyncClient):
    """An `AsyncClient` for an Azure OpenAI endpoint."""

    def __init__(
        self,
        *,
        azure_endpoint: str | None = None,
        azure_deployment: str | None = None,
        api_version: str | None = None,
        api_key: str | None = None,
        azure_ad_token: str | None = None,
        azure_ad_token_provider: Callable[[], str | Awaitable[str]] | None = None,
        default_query: Mapping[str, object] | None = None,
        **settings: Any,
    ) -> None:
        """Read the settings as `AzureClient` does."""
        azure = _AzureSettings(
            azure_endpoint,
            azure_deployment,
            api_version,
            api_key,
            azure_ad_token_provider or azure_ad_token,
        )
        query = {**azure.query_of_version, **(default_query or {})}
        super().__init__(azure.credential, base_url=azure.url, default_query=query, **settings)
        azure.apply(self)


set_public_module(globals())
