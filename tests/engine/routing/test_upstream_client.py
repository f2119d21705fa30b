"""The client of the other service, on each transport that it may have."""

import asyncio
import json
import threading

import pytest
from tests.support.http_stub import HANG_UP, RESET, Stub, answer, raw, sse

from tunesmith.engine.config import UpstreamConfig
from tunesmith.engine.routing import upstream_client
from tunesmith.engine.routing.upstream_client import (
    ServiceCall,
    ServiceFailedError,
    UpstreamClient,
)
from tunesmith.errors import APIConnectionError

KEY = "sk-sentinel-6f1c2b9e0d7a4e55"
BODY = b'{"model": "old",  "messages": [{"role": "user", "content": "\\u00fc"}]}'


@pytest.fixture(params=["fast", "httpx"], autouse=True)
def transport(request, monkeypatch):
    found = object() if request.param == "fast" else None
    if found:
        pytest.importorskip("pyreqwest")
    monkeypatch.setattr(upstream_client.importlib.util, "find_spec", lambda _: found)
    return request.param


@pytest.fixture
def stub():
    server = Stub()
    yield server
    server.close()


def call():
    return ServiceCall("chat/completions", "old", BODY, json.loads(BODY), {"user-agent": "mine"})


def ask(stub, work, seconds=5.0):
    """Run work(answer) with the answer to a call, in a loop of its own."""

    async def run():
        client = UpstreamClient()
        try:
            return await work(await client.ask(UpstreamConfig(stub.url, KEY), call(), seconds))
        finally:
            await client.close()

    return asyncio.run(run())


async def as_it_is(found):
    return found


def test_the_transport_is_the_one_that_is_installed(transport):
    client = UpstreamClient()
    assert ("Fast" in type(client._transport).__name__) == (transport == "fast")


def test_bytes_go_and_come_unchanged(stub):
    stub.default = answer({"a": 1}, x_ratelimit_limit_requests="7", set_cookie="no")
    found = ask(stub, as_it_is)
    assert (found.status, found.body) == (200, b'{"a": 1}')
    assert found.headers["x-ratelimit-limit-requests"] == "7"
    assert "set-cookie" not in found.headers
    assert stub.requests[0].body == BODY
    assert stub.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert stub.requests[0].headers["user-agent"] == "mine"


def test_a_stream_comes_as_it_is_written(stub):
    pause = threading.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    stub.default = raw(head + b"data: 1\n\n", pause, b"data: 2\n\n", HANG_UP)

    async def read(found):
        first = found.body
        pause.set()
        rest = [piece async for piece in pieces(found.stream)]
        return first, b"".join(rest)

    assert ask(stub, read) == (b"data: 1\n\n", b"data: 2\n\n")


async def pieces(stream):
    while piece := await stream.read():
        yield piece


def test_a_stream_that_breaks_off_is_an_error(stub):
    stub.default = sse({"a": 1}, done=False, tail=[HANG_UP])

    async def read(found):
        return [piece async for piece in pieces(found.stream)]

    with pytest.raises(APIConnectionError):
        ask(stub, read)


@pytest.mark.parametrize(
    "how",
    [
        raw(HANG_UP),
        raw(RESET),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", HANG_UP),
        raw(1.5, HANG_UP),
        answer({"error": {"message": f"wrong key {KEY}"}}, 401),
        answer({}, 302, location="http://127.0.0.1:1/"),
        answer({"error": {"code": "model_not_found"}}, 404),
        answer({}, 503),
    ],
)
def test_no_answer_of_use(stub, how):
    stub.default = how
    with pytest.raises(ServiceFailedError) as failure:
        ask(stub, as_it_is, seconds=0.7)
    assert KEY not in f"{failure.value} {failure.value.reason} {failure.value.answer}"
    assert len(stub.requests) == 1  # sent once, whatever happened


def test_a_service_that_is_not_there(stub):
    stub.close()
    with pytest.raises(ServiceFailedError, match="could not be reached"):
        ask(stub, as_it_is)


def test_an_error_of_the_caller_is_an_answer(stub):
    stub.default = answer({"error": {"message": f"too long for {KEY}"}}, 400)
    found = ask(stub, as_it_is)
    assert found.status == 400
    assert KEY.encode() not in found.body
