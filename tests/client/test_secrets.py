"""Secrets stay where they are: a sentinel in keys, header fields, URLs and proxies never shows."""

from __future__ import annotations

import base64
import copy
import inspect
import logging
import pickle
import traceback
from typing import Any

import httpx
import pytest

import tunesmith
from http_stub import HANG_UP, answer, raw
from tunesmith import AzureClient, Client, RetryPolicy, errors
from tunesmith.core.urls import shown_url

pytestmark = pytest.mark.both_transports
SENTINEL = "sk-sentinel-do-not-show-4711"
MODEL = {"id": "m", "created": 1, "owned_by": "me"}


def shown(error: BaseException, *, with_locals: bool = True) -> str:
    """Return everything that a log, an error tracker or a pickle may show of an error.

    Where the secret is an argument of the failing call itself, local variables hold it, in the
    user's frames as in ours, and are left out.
    """
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    texts = [repr(vars(one)) + repr(one) + str(one) + repr(one.args) for one in chain]
    summary = traceback.TracebackException.from_exception(error, capture_locals=with_locals)
    # The frame of the test itself holds the secret, as the user's own frame does.
    own = [frame for frame in summary.stack if "/tests/" in frame.filename]
    for frame in own:
        frame.locals = None
    texts += summary.format()
    texts.append(str(pickle.dumps(error)))
    texts.append(repr(pickle.loads(pickle.dumps(error))))
    return "\n".join(texts)


def caught(mode: Any, call: Any, *, with_locals: bool = True) -> BaseException:
    with pytest.raises(tunesmith.TunesmithError) as found:
        mode.run(call())
    text = shown(found.value, with_locals=with_locals)
    assert SENTINEL not in text
    assert base64.b64encode(f"me:{SENTINEL}".encode()).decode() not in text
    return found.value


# Header fields and keys

VALUES = {"line break": f"{SENTINEL}\nmore", "not ASCII": f"{SENTINEL}é", "zero": f"{SENTINEL}\0x"}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("place", ["key", "callable", "default", "extra", "environment"])
def test_a_value_that_no_header_can_carry_is_refused_without_showing_it(
    mode, stub, monkeypatch, place, value
):
    def call() -> Any:
        settings: dict[str, Any] = {}
        options: dict[str, Any] = {}
        if place == "default":
            settings["default_headers"] = {"Authorization": value}
        elif place == "extra":
            options["extra_headers"] = {"Authorization": value}
        elif place == "environment":
            monkeypatch.setenv("OPENAI_ORG_ID", value.replace("\0", "\x01"))
        client = mode.client(stub.url, **settings)
        if place == "key":
            client = client.with_options(api_key=value)
        elif place == "callable":
            client = client.with_options(api_key=lambda: value)
        return client.models.retrieve("m", **options)

    error = caught(mode, call, with_locals=place == "callable")
    assert isinstance(error, tunesmith.ConfigurationError)
    assert stub.requests == []


@pytest.mark.parametrize("place", ["key", "callable", "default", "extra"])
def test_a_line_break_at_the_end_is_no_part_of_a_key(mode, stub, place):
    """As it is read from a file or a shell's output."""
    stub.handle = lambda _: answer(MODEL)
    client = mode.client(stub.url)
    options: dict[str, Any] = {}
    if place == "key":
        client = client.with_options(api_key=f"{SENTINEL}\n")
    elif place == "callable":
        client = client.with_options(api_key=lambda: f"{SENTINEL}\r\n")
    elif place == "default":
        client = client.with_options(default_headers={"Authorization": f"Bearer {SENTINEL}\n"})
    else:
        options["extra_headers"] = {"Authorization": f"Bearer {SENTINEL}\n"}
    mode.run(client.models.retrieve("m", **options))
    assert stub.requests[0].headers["authorization"] == f"Bearer {SENTINEL}"


@pytest.mark.parametrize("key", [b"bytes", 7, ["list"]])
def test_a_key_that_is_no_text_is_named(key):
    with pytest.raises(tunesmith.ConfigurationError, match=type(key).__name__):
        Client(key, base_url="http://127.0.0.1:1/v1")


FAULTS = {
    "refused": None,
    "hang-up": raw(HANG_UP),
    "garbage": raw(b"\x00 garbage\r\n\r\n", HANG_UP),
    "echo": answer({"error": {"message": f"Incorrect API key provided: {SENTINEL}."}}, 401),
    "echo in HTML": raw(
        b"HTTP/1.1 500 No\r\ncontent-length: %d\r\n\r\n%b" % (len(SENTINEL), SENTINEL.encode())
    ),
    "redirect": answer({}, 302, location="ftp://elsewhere/"),
    "html": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<hr>"),
    "missing": answer({"id": None}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "header", ["authorization", "x-goog-api-key", "cookie", "helicone-auth", "x-access-token"]
)
def test_no_error_of_a_call_shows_a_credential(mode, stub, caplog, fault, header):
    if FAULTS[fault] is None:
        stub.close()
    else:
        stub.handle = lambda _: FAULTS[fault]
    client = mode.client(
        stub.url,
        default_headers={header: SENTINEL},
        default_query={"api-key": SENTINEL, "sig": SENTINEL},
        retry=RetryPolicy(0),
    )
    with caplog.at_level(logging.DEBUG):
        caught(mode, lambda: client.fine_tuning.jobs.retrieve("ftjob-1"))
    assert SENTINEL not in "\n".join(f"{one.getMessage()} {one.args}" for one in caplog.records if one.name == "tunesmith")  # fmt: skip
    assert SENTINEL not in repr(client) + repr(client._settings) + repr(vars(client))


@pytest.mark.parametrize(
    "kind", [httpx.LocalProtocolError, httpx.ConnectError, httpx.ReadError, RuntimeError, ValueError]
)  # fmt: skip
def test_what_a_library_says_of_a_header_is_masked(mode, kind):
    class Failing(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise kind(f"Illegal header value {request.headers['authorization'].encode()!r}")

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return self.handle_request(request)

    Failing.__module__ = "httpx"
    own = (httpx.AsyncClient if mode.runner else httpx.Client)(transport=Failing())
    client = mode.client("http://127.0.0.1:1/v1", http_client=own, retry=RetryPolicy(0))
    client = client.with_options(api_key=SENTINEL)
    try:
        mode.run(client.models.retrieve("m"))
    except tunesmith.APIConnectionError as error:
        assert SENTINEL not in shown(error)  # noqa: PT017
        assert "**********" in str(error)  # noqa: PT017
    except (RuntimeError, ValueError) as error:
        # Raised by a transport of the user's: it is the user's own error.
        assert kind in {RuntimeError, ValueError}, error  # noqa: PT017


# URLs


def test_a_login_in_the_base_url_is_sent_as_basic_authentication(mode, stub, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    stub.handle = lambda _: answer(MODEL)
    url = stub.url.replace("://", f"://me:{SENTINEL}%40@")
    client = (tunesmith.AsyncClient if mode.runner else Client)(
        base_url=url, transport=mode.transport
    )
    mode.clients.append(client)
    mode.run(client.models.retrieve("m"))
    expected = base64.b64encode(f"me:{SENTINEL}@".encode()).decode()
    assert stub.requests[0].headers["authorization"] == f"Basic {expected}"
    everything = repr(client) + repr(vars(client)) + repr(client._settings) + client.base_url
    assert SENTINEL not in everything
    assert expected not in everything
    assert client.api_key is None
    stub.handle = lambda _: answer({}, 404)
    caught(mode, lambda: client.models.retrieve("m"))


def test_a_login_stays_with_its_server(stub):
    client = Client(base_url=stub.url.replace("://", f"://me:{SENTINEL}@"))
    stub.handle = lambda _: answer(MODEL)
    client.with_options(base_url=stub.url).models.retrieve("m")
    client.with_options(api_key="k").models.retrieve("m")
    client.base_url = stub.url
    client.models.retrieve("m")
    sent = [request.headers["authorization"] for request in stub.requests]
    assert sent == ["Bearer local", "Bearer k", "Bearer local"]
    client.close()


def test_a_login_and_a_key_are_refused_together(stub):
    with pytest.raises(tunesmith.ConfigurationError, match="only one of them") as found:
        Client("key", base_url=stub.url.replace("://", f"://me:{SENTINEL}@"))
    assert SENTINEL not in shown(found.value, with_locals=False)


@pytest.mark.parametrize("url", ["ftp://me:{}@host", "http://me:{}@", "http://me:{}@host:99999", "http://me:{}@[::1", "http://me:a#{}@host", "http://me:a/{}@host", "http://me:a?{}@host"])  # fmt: skip
def test_an_invalid_url_shows_no_password(url):
    with pytest.raises(tunesmith.ConfigurationError, match="base URL") as found:
        Client(base_url=url.format(SENTINEL))
    assert SENTINEL not in shown(found.value, with_locals=False)


def test_a_login_in_an_absolute_path_is_refused(mode, stub):
    url = stub.url.replace("://", f"://me:{SENTINEL}@")
    client = mode.client(stub.url)
    error = caught(mode, lambda: client.get(f"{url}/models"), with_locals=False)
    assert "extra_headers" in str(error)


def test_a_login_in_a_redirect_is_neither_used_nor_shown(mode, stub):
    target = stub.url.replace("://", f"://me:{SENTINEL}@")
    stub.then(answer({}, 307, location=f"{target}/models/other"), answer({}, 404))
    caught(mode, lambda: mode.client(stub.url).models.retrieve("m"))
    assert "Basic" not in stub.requests[1].headers["authorization"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://u:p@h:1/v1?a=b&api_key=x#f", "http://h:1/v1?a=b&api_key=**********#f"),
        ("http://h/@x?max_tokens=5", "http://h/@x?max_tokens=5"),
        ("http://u:p%2F@h?sig=a/b", "http://h?sig=**********"),
        ("http://h/v1", "http://h/v1"),
    ],
)
def test_what_is_shown_of_a_url(url, expected):
    assert shown_url(url) == expected


def test_an_azure_endpoint_with_a_login_is_refused():
    with pytest.raises(tunesmith.ConfigurationError) as found:
        AzureClient(azure_endpoint=f"https://me:{SENTINEL}@a.test", api_version="1", api_key="k")
    assert SENTINEL not in shown(found.value, with_locals=False)


# Errors of our own


def every_error() -> list[type[tunesmith.TunesmithError]]:
    return [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.TunesmithError)
    ]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_pickles_and_copies(kind):
    error = kind("A feature", "extra") if kind is errors.MissingExtraError else kind("message")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert {n: v for n, v in vars(twin).items() if n != "__notes__"} == vars(error)


def test_session_cookies_of_a_server_are_not_kept_in_errors(mode, stub):
    stub.handle = lambda _: answer({}, 403, set_cookie=f"session={SENTINEL}")
    error = caught(mode, lambda: mode.client(stub.url).models.retrieve("m"))
    assert isinstance(error, tunesmith.PermissionDeniedError)
    assert "set-cookie" in error.response.headers


HOSTILE = {
    "lone surrogate in an id": lambda client: client.models.retrieve("\ud800"),
    "lone surrogate in a query": lambda client: client.files.list(after="\ud800"),
    "nested body": lambda client: client.post("/x", body=_nested(100_000)),
    "header that is no text": lambda client: client.models.retrieve("m", extra_headers={"x": 5}),
    "header name": lambda client: client.models.retrieve("m", extra_headers={"x y": "5"}),
}


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", HOSTILE)
def test_bad_input_is_a_clear_error_before_anything_is_sent(mode, stub, name):
    with pytest.raises((ValueError, TypeError, tunesmith.ConfigurationError)) as found:
        mode.run(HOSTILE[name](mode.client(stub.url)))
    assert not isinstance(found.value, UnicodeError)
    assert stub.requests == []


def test_an_httpx_client_that_was_closed_is_named(mode, stub):
    own = (httpx.AsyncClient if mode.runner else httpx.Client)()
    client = mode.client(stub.url, http_client=own)
    mode.run(own.aclose() if mode.runner else own.close())
    with pytest.raises(tunesmith.APIConnectionError, match="client has been closed") as found:
        mode.run(client.models.retrieve("m"))
    assert found.value.retryable is False


def test_an_error_of_a_users_hook_in_its_httpx_client_is_the_users(mode, stub):
    class Mine(Exception):  # noqa: N818
        pass

    def hook(request: httpx.Request) -> None:
        raise Mine

    async def async_hook(request: httpx.Request) -> None:
        raise Mine

    hooks = {"request": [async_hook if mode.runner else hook]}
    own = (httpx.AsyncClient if mode.runner else httpx.Client)(event_hooks=hooks)
    with pytest.raises(Mine):
        mode.run(mode.client(stub.url, http_client=own).models.retrieve("m"))
    mode.run(own.aclose() if mode.runner else own.close())
