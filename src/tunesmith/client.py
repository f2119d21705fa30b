"""Client and AsyncClient: they read the settings, hold the resources and close the connections.

Both are cheap: nothing is connected, and no HTTP library is imported, before the first request.
A Client may be shared between threads and is safe after a fork; an AsyncClient may be used from
one event loop after another. How operations run is up to `resources.executors`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from tunesmith.core.environment import (
    DEFAULT_BASE_URL,
    admin_credential,
    base_headers,
    check_count,
    credential,
    login,
    lowercase_names,
    organization_headers,
    server_url,
    without_user_headers,
)
from tunesmith.core.headers import HeaderFields, update_fields
from tunesmith.core.modes import (
    Async,
    AsyncRaw,
    AsyncStreaming,
    ModeT_co,
    Sync,
    SyncRaw,
    SyncStreaming,
)
from tunesmith.core.options import DEFAULT_TIMEOUT, Timeout, is_omitted, not_given
from tunesmith.core.redact import Login, Secret
from tunesmith.core.retry import RetryPolicy
from tunesmith.core.settings import Settings
from tunesmith.core.urls import with_query
from tunesmith.resources.executors import (
    AsyncExecutor,
    AsyncRawExecutor,
    AsyncStreamingExecutor,
    Connections,
    RawExecutor,
    StreamingExecutor,
    SyncExecutor,
)
from tunesmith.resources.tree import ResourceTree

from ._lazy import set_public_module

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from tunesmith.core.hooks import Hooks
    from tunesmith.core.options import NotGiven, TimeoutLike
    from tunesmith.core.settings import AzureEndpoint, Credential

__all__ = ["DEFAULT_BASE_URL", "AsyncClient", "Client"]

DEFAULT_MAX_RETRIES = 2
_ORGANIZATION, _PROJECT = "openai-organization", "openai-project"


class BaseClient(ResourceTree[ModeT_co]):
    """What the sync and the async client share: reading the settings and copying a client."""

    _executor_class: ClassVar[type[SyncExecutor | AsyncExecutor]]

    def __init__(
        self,
        api_key: str | Callable[[], str | Awaitable[str]] | None = None,
        *,
        admin_api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        timeout: TimeoutLike | NotGiven = not_given,
        max_retries: int | NotGiven = DEFAULT_MAX_RETRIES,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        retry: RetryPolicy | None = None,
        hooks: Hooks | None = None,
        require_stream_end: bool = True,
        max_connections: int | None = None,
        transport: Any = None,
        http2: bool = False,
    ) -> None:
        """Read the settings; omitted ones come from the environment.

        Args:
            api_key: The key, or a function that returns it and is called for each request. From
                TUNESMITH_API_KEY or OPENAI_API_KEY. A server on this machine needs no key.
            admin_api_key: The key for `admin` and for checkpoint permissions. From
                TUNESMITH_ADMIN_KEY or OPENAI_ADMIN_KEY.
            base_url: The server, from TUNESMITH_BASE_URL or OPENAI_BASE_URL; by default the
                embedded engine's address. A query in it is sent with each request; a user name
                and password are sent as basic authentication, in place of a key, and never shown.
            organization: Sent with each request, from TUNESMITH_ORG_ID or OPENAI_ORG_ID.
            project: Sent with each request, from TUNESMITH_PROJECT_ID or OPENAI_PROJECT_ID.
            timeout: Seconds, a Timeout, or `(connect, read)`; 600 by default, 5 to connect.
            max_retries: Retries after a transient failure.
            default_headers: Header fields for each request, in addition to those of
                TUNESMITH_CUSTOM_HEADERS or OPENAI_CUSTOM_HEADERS (one `Name: value` a line).
            default_query: Query parameters for each request.
            http_client: Your own client of httpx or of its successor httpx2 to send requests with.
            retry: The whole retry policy, in place of `max_retries`.
            hooks: Functions called with requests, responses and retries.
            require_stream_end: Whether a stream that ends without `[DONE]` is an error.
            max_connections: The most connections at one time, 1000 by default.
            transport: "httpx" (the default), "fast" (the extra of that name), or an object with
                a `send` method of your own.
            http2: Offer HTTP/2 (with httpx: the extra of that name). Faster for many concurrent
                requests to one distant server, slower for single ones.

        Raises:
            ConfigurationError: There is no key, or the base URL is invalid.
        """
        check_count("max_connections", max_connections)
        url, query = server_url(base_url)
        settings = Settings(
            base_url=url,
            base_query=query,
            credential=credential(api_key, url, login(base_url)),
            admin_key=admin_credential(admin_api_key),
            headers=base_headers(organization, project, default_headers),
            default_query=dict(default_query or {}),
            timeout=DEFAULT_TIMEOUT if is_omitted(timeout) else Timeout.of(timeout),
            retry=retry or _retry_policy(max_retries),
            hooks=hooks,
            require_stream_end=require_stream_end,
        )
        connections = Connections(http_client, max_connections, transport, http2=http2)
        super().__init__(self._executor_class(settings, connections))

    @property
    def _settings(self) -> Settings:
        """The settings of every request."""
        settings: Settings = self._executor.settings
        return settings

    @property
    def base_url(self) -> str:
        """The server's address, without a trailing slash."""
        return with_query(self._settings.base_url, self._settings.base_query, "")

    @base_url.setter
    def base_url(self, value: str) -> None:
        url, query = server_url(value)
        self._change(
            base_url=url,
            base_query=query,
            azure=_moved(self._settings.azure, url),
            credential=self._credential_for(value, None),
        )

    @property
    def api_key(self) -> str | None:
        """The key in plain text; None if a function returns it or the URL has a login."""
        key = self._settings.credential
        return key.reveal() if isinstance(key, Secret) and not isinstance(key, Login) else None

    @api_key.setter
    def api_key(self, value: str | Callable[[], str | Awaitable[str]] | None) -> None:
        now = self._settings
        header = "authorization" if now.azure is None else "api-key"
        self._change(credential=credential(value, now.base_url), key_header=header)

    @property
    def admin_api_key(self) -> str | None:
        """The administrator's key in plain text."""
        key = self._settings.admin_key
        return None if key is None else key.reveal()

    @admin_api_key.setter
    def admin_api_key(self, value: str | None) -> None:
        self._change(admin_key=admin_credential(value))

    @property
    def organization(self) -> str | None:
        """The organisation sent with each request."""
        return self._settings.headers.get(_ORGANIZATION)

    @organization.setter
    def organization(self, value: str | None) -> None:
        self._change(headers=_with_field(self._settings.headers, _ORGANIZATION, value))

    @property
    def project(self) -> str | None:
        """The project sent with each request."""
        return self._settings.headers.get(_PROJECT)

    @project.setter
    def project(self, value: str | None) -> None:
        self._change(headers=_with_field(self._settings.headers, _PROJECT, value))

    @property
    def timeout(self) -> Timeout:
        """The time limits of each request; a number of seconds can be assigned, too."""
        return self._settings.timeout

    @timeout.setter
    def timeout(self, value: TimeoutLike | NotGiven) -> None:
        self._change(timeout=DEFAULT_TIMEOUT if is_omitted(value) else Timeout.of(value))

    @property
    def max_retries(self) -> int:
        """Retries after a transient failure."""
        return self._settings.retry.max_retries

    @max_retries.setter
    def max_retries(self, value: int | NotGiven) -> None:
        count = DEFAULT_MAX_RETRIES if is_omitted(value) else value
        self._change(retry=replace(self._settings.retry, max_retries=count))

    @property
    def default_headers(self) -> dict[str, str]:
        """The header fields of each request, without the key; `with_options` changes them."""
        return HeaderFields(self._settings.headers)

    @property
    def default_query(self) -> dict[str, object]:
        """The query parameters of each request; `with_options` changes them."""
        return dict(self._settings.default_query)

    def _change(self, **changes: Any) -> None:
        """Change settings of this client; its resources see them, its clones do not."""
        self._executor.settings = replace(self._settings, **changes)

    def _credential_for(self, base_url: str, api_key: Any) -> Credential:
        """Return the credential of a clone for another server."""
        now, new_login = self._settings.credential, login(base_url)
        # A login belongs to the server that it was given for; a key goes along.
        if api_key is None and new_login is None and not isinstance(now, Login):
            api_key = now
        return credential(api_key, server_url(base_url).url, new_login)

    def _clone(self, http_client: Any, **changes: Any) -> Self:
        """Return a client with other settings, on the same connections or on `http_client`."""
        connections: Connections = self._executor.connections
        if http_client is not None:
            connections = Connections(http_client, connections.limit, None)
        settings = replace(self._settings, **changes)
        clone = self.__class__.__new__(self.__class__)
        kept = {name: value for name, value in vars(self).items() if name not in _RESOURCES}
        vars(clone).update(kept, _executor=self._executor_class(settings, connections))
        return clone

    def with_options(
        self,
        *,
        api_key: str | Callable[[], str | Awaitable[str]] | None = None,
        admin_api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        timeout: TimeoutLike | NotGiven = not_given,
        max_retries: int | NotGiven = not_given,
        default_headers: Mapping[str, str] | None = None,
        set_default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        set_default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        retry: RetryPolicy | None = None,
        hooks: Hooks | None = None,
        require_stream_end: bool | None = None,
    ) -> Self:
        """Return a client with some settings changed, on the same connections.

        `default_headers` and `default_query` add to those of this client; their `set_` forms
        replace them.
        """
        now = self._settings
        changes: dict[str, Any] = {}
        if base_url is not None:
            url, base_query = server_url(base_url)
            changes |= {"base_url": url, "base_query": base_query, "azure": _moved(now.azure, url)}
            changes["credential"] = self._credential_for(base_url, api_key)
        elif api_key is not None:
            changes["credential"] = credential(api_key, now.base_url)
        if admin_api_key is not None:
            changes["admin_key"] = admin_credential(admin_api_key)
        if not is_omitted(timeout):
            changes["timeout"] = Timeout.of(timeout)
        if not is_omitted(max_retries):
            changes["retry"] = replace(now.retry, max_retries=max_retries)
        given = {"retry": retry, "hooks": hooks, "require_stream_end": require_stream_end}
        changes |= {name: value for name, value in given.items() if value is not None}
        kept = now.headers if set_default_headers is None else without_user_headers(now.headers)
        headers = {**kept, **organization_headers(organization, project)}
        update_fields(headers, set_default_headers)
        update_fields(headers, default_headers)
        changes["headers"] = headers
        query = now.default_query if set_default_query is None else set_default_query
        changes["default_query"] = {**query, **(default_query or {})}
        return self._clone(http_client, **changes)

    copy = with_options

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy on the same connections, for objects that are copied with their client."""
        return self.copy()

    def __repr__(self) -> str:
        # A debugger may show a client whose construction has failed.
        address = repr(self.base_url) if "_executor" in vars(self) else "…"
        return f"{type(self).__name__}(base_url={address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} holds connections and a credential and cannot be pickled. "
            "Create one where it is used."
        )


def _retry_policy(max_retries: int | NotGiven) -> RetryPolicy:
    count = DEFAULT_MAX_RETRIES if is_omitted(max_retries) else max_retries
    return RetryPolicy(max_retries=count)


def _moved(azure: AzureEndpoint | None, url: str) -> AzureEndpoint | None:
    """Return an Azure endpoint at another URL."""
    return None if azure is None else replace(azure, root=url)


def _with_field(headers: Mapping[str, str], name: str, value: str | None) -> dict[str, str]:
    """Return header fields with one replaced, or removed if `value` is None."""
    kept = {field: text for field, text in headers.items() if field != name}
    return kept if value is None else {**kept, **lowercase_names({name: value})}


_RESOURCES = frozenset(
    [name for name, value in vars(ResourceTree).items() if isinstance(value, cached_property)]
    + ["with_raw_response", "with_streaming_response"]
)


class Client(BaseClient[Sync]):
    """A client of an OpenAI-style server that blocks until each response has arrived.

    `from tunesmith import Client as OpenAI` replaces openai's class for files, fine-tuning,
    completions, chat completions, models and uploads.
    """

    _executor_class = SyncExecutor

    @cached_property
    def with_raw_response(self) -> ResourceTree[SyncRaw]:
        """The same operations, returning whole responses: status, header fields, body, value."""
        return ResourceTree(RawExecutor(self._executor))

    @cached_property
    def with_streaming_response(self) -> ResourceTree[SyncStreaming]:
        """The same operations, returning responses whose body is read on demand."""
        return ResourceTree(StreamingExecutor(self._executor))

    def close(self) -> None:
        """Close the connections. Clones made by `with_options` share them."""
        driver = self._executor.connections.driver
        if driver is not None:
            driver.transport.close()

    def is_closed(self) -> bool:
        """Return False: a closed client opens new connections when it is used again."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(BaseClient[Async]):
    """A client of an OpenAI-style server for asyncio.

    The same operations as `Client`, to be awaited. Lists can be iterated with `async for`
    without awaiting them first.
    """

    _executor_class = AsyncExecutor

    @cached_property
    def with_raw_response(self) -> ResourceTree[AsyncRaw]:
        """The same operations, returning whole responses: status, header fields, body, value."""
        return ResourceTree(AsyncRawExecutor(self._executor))

    @cached_property
    def with_streaming_response(self) -> ResourceTree[AsyncStreaming]:
        """The same operations, returning responses whose body is read on demand."""
        return ResourceTree(AsyncStreamingExecutor(self._executor))

    async def close(self) -> None:
        """Close the connections of the running event loop. Clones share them."""
        driver = self._executor.connections.driver
        if driver is not None:
            await driver.transport.aclose()

    def is_closed(self) -> bool:
        """Return False: a closed client opens new connections when it is used again."""
        return False

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the same as `close`."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


set_public_module(globals())
