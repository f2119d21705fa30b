"""Which failures pass and which are final: one table over every exception of the HTTP libraries."""

from __future__ import annotations

import importlib
import inspect
import ssl
from typing import Any

import httpx
import pytest

import tunesmith
from http_stub import HANG_UP, answer, raw
from tls_server import Handshakes
from tunesmith import RetryPolicy
from tunesmith.transport.failure_table import PASSES, passes

MODEL = {"id": "m", "created": 1, "owned_by": "me"}
BROKEN_GZIP = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"


def exception_classes(module_name: str) -> list[type[Exception]]:
    module = pytest.importorskip(module_name)
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Exception) and value.__module__.startswith(module_name.partition(".")[0])
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["httpx", "httpx2", "httpcore", "h11", "pyreqwest.exceptions"])
def test_the_table_names_every_exception_class(library):
    """A class that a library adds fails here, until it is decided whether it passes."""
    for found in exception_classes(library):
        assert found.__name__ in PASSES, found


def made(kind: type[Exception]) -> Exception:
    request = httpx.Request("GET", "http://h/")
    if issubclass(kind, httpx.HTTPStatusError):
        return kind("no", request=request, response=httpx.Response(500, request=request))
    return kind() if not inspect.signature(kind).parameters else kind("reason 42")


class Raising(httpx.BaseTransport, httpx.AsyncBaseTransport):
    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind
        self.calls = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        del request
        self.calls += 1
        raise made(self.kind)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def raising_client(mode: Any, kind: type[Exception]) -> tuple[Any, Raising]:
    transport = Raising(kind)
    own = (httpx.AsyncClient if mode.runner else httpx.Client)(transport=transport)
    return mode.client("http://127.0.0.1:1/v1", http_client=own), transport


@pytest.mark.parametrize("kind", exception_classes("httpx"), ids=lambda kind: kind.__name__)
def test_an_exception_of_httpx_is_retried_if_it_passes(mode, kind):
    client, transport = raising_client(mode, kind)
    with pytest.raises(tunesmith.APIConnectionError) as caught:
        mode.run(client.models.retrieve("m"))
    assert caught.value.retryable is PASSES[kind.__name__]
    assert transport.calls == (3 if PASSES[kind.__name__] else 1)


@pytest.mark.parametrize("operation", ["wait", "events", "legacy wait", "legacy events"])
@pytest.mark.parametrize(
    "kind", [httpx.LocalProtocolError, httpx.DecodingError, httpx.UnsupportedProtocol]
)
def test_a_final_failure_ends_a_wait_at_once(mode, kind, operation):
    client, transport = raising_client(mode, kind)
    start = {
        "wait": lambda: mode.run(client.fine_tuning.jobs.wait("ftjob-1")),
        "events": lambda: mode.items(client.fine_tuning.jobs.events("ftjob-1")),
        "legacy wait": lambda: mode.run(client.fine_tunes.wait("ft-1")),
        "legacy events": lambda: mode.items(client.fine_tunes.events("ft-1")),
    }[operation]
    with pytest.raises(tunesmith.APIConnectionError):
        start()
    # Legacy events ask for the stream first, then for the job.
    assert transport.calls <= 2


def test_every_exception_of_the_fast_engine_has_its_verdict():
    module = pytest.importorskip("pyreqwest.exceptions")
    for kind in exception_classes("pyreqwest.exceptions"):
        error = kind.__new__(kind)
        error.args = ("reason", {"causes": None})
        assert passes(error) is PASSES[kind.__name__]
    assert issubclass(module.PyreqwestError, Exception)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectionResetError(104, "reset"), True),
        (ssl.SSLError(1, "EOF occurred in violation of protocol"), True),
        (TimeoutError("late"), True),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "no"), False),
        (RecursionError("deep"), False),
        (AttributeError("x"), False),
        (RuntimeError("Event loop is closed"), False),
        (httpx.ProxyError("407 Proxy Authentication Required"), False),
        (httpx.ProxyError("503 Service Unavailable"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_other_exceptions_have_their_verdict(error, verdict):
    assert passes(error) is verdict


@pytest.mark.every_transport
def test_a_body_that_cannot_be_decompressed_is_final(mode, stub):
    stub.handle = lambda _: raw(BROKEN_GZIP, HANG_UP)
    with pytest.raises(tunesmith.APIConnectionError, match="The request failed") as caught:
        mode.run(mode.client(stub.url).models.retrieve("m"))
    assert caught.value.retryable is False
    assert len(stub.requests) == 1


@pytest.mark.every_transport
def test_an_illegal_header_is_final_and_never_sent(mode, stub):
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.ConfigurationError, match="X-Note"):
        mode.run(client.models.retrieve("m", extra_headers={"X-Note": "two\r\nlines"}))
    assert stub.requests == []


@pytest.mark.every_transport
@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_ends_early_passes(mode, stub, part):
    whole = answer(MODEL).steps()[0]
    cut = 30 if part == "head" else len(whole) - 5
    stub.then(raw(whole[:cut], HANG_UP), raw(whole[:cut], HANG_UP), answer(MODEL))
    assert mode.run(mode.client(stub.url).models.retrieve("m")).id == "m"


@pytest.mark.every_transport
@pytest.mark.parametrize("fault", ["eof", "reset", "half", "internal"])
def test_a_handshake_that_ends_early_passes(mode, issued, monkeypatch, fault):
    server = Handshakes(fault, 2, issued.certificate, issued.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(issued.authority))
    assert mode.run(mode.client(server.url).models.retrieve("m")).id == "m"
    server.close()
    assert server.attempts == 3


@pytest.mark.every_transport
@pytest.mark.parametrize(
    ("fault", "advice"), [("plain", "does not speak TLS"), ("disagree", "do not agree on TLS")]
)
def test_a_handshake_that_fails_each_time_is_final(mode, issued, fault, advice):
    server = Handshakes(fault, 9, issued.certificate, issued.key)
    with pytest.raises(tunesmith.APIConnectionError, match=advice) as caught:
        mode.run(mode.client(server.url).models.retrieve("m"))
    server.close()
    assert (caught.value.retryable, server.attempts) == (False, 1)


@pytest.mark.both_transports
def test_a_wait_goes_on_over_broken_handshakes(mode, issued, monkeypatch, job):
    server = Handshakes("eof", 4, issued.certificate, issued.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(issued.authority))
    client = mode.client(server.url, retry=RetryPolicy(0))
    # The answer is a model, which is no job: the wait got through and ends with that.
    with pytest.raises(tunesmith.APIResponseValidationError):
        mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.01))
    server.close()
    assert server.attempts == 5


WAITED = [
    (lambda _: answer({}, 408), True),
    (lambda _: answer({}, 503), True),
    (lambda _: answer({}, 429), True),
    (lambda _: answer({}, 409, x_should_retry="true"), True),
    (lambda _: answer({}, 500, x_should_retry="false"), False),
    (lambda _: raw(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>"), True),
    (lambda job: answer({**job, "id": None}), False),
    (lambda _: answer({}, 404), False),
    (lambda _: raw(BROKEN_GZIP, HANG_UP), False),
]


@pytest.mark.parametrize("with_events", [False, True])
@pytest.mark.parametrize(("fault", "survives"), WAITED)
def test_what_a_wait_survives(mode, stub, job, fault, survives, with_events):
    """The same rules as for retries, and a gateway's page in place of an answer."""
    faulty = [True]

    def handle(request: Any) -> Any:
        if "events" in request.path:
            return answer({"object": "list", "data": [], "has_more": False})
        return fault(job) if faulty and faulty.pop() else answer(job)

    stub.handle = handle
    client = mode.client(stub.url, retry=RetryPolicy(0))
    settings = {"on_event": print} if with_events else {}
    if survives:
        done = mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.001, **settings))
        assert done.status == "succeeded"
    else:
        with pytest.raises(tunesmith.APIError):
            mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.001, **settings))


def test_the_table_loads_no_http_library():
    source = inspect.getsource(importlib.import_module("tunesmith.transport.failure_table"))
    assert "import httpx" not in source
