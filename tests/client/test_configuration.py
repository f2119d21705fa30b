"""Settings from the environment and unusual clients: keys, header fields, logs, HTTP/2, httpx2."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from typing import Any

import httpx
import pytest

import tunesmith
from http_stub import answer, sse
from tunesmith import Client, RetryPolicy, Timeout

KEY = "sk-sentinel-do-not-show-4711"
MODEL = {"id": "m", "created": 1, "owned_by": "me"}
REFUSED = {"error": {"message": "The API key is wrong or has been revoked."}}
PERMISSIONS = {"object": "list", "data": [], "has_more": False}


def test_header_fields_from_the_environment(mode, stub, monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: blue: two\nno colon\n x-tier :gold")
    stub.handle = lambda _: answer(MODEL)
    client = mode.client(stub.url, default_headers={"X-Tier": "silver"})
    mode.run(client.models.retrieve("m"))
    headers = stub.requests[0].headers
    assert (headers["x-team"], headers["x-tier"]) == ("blue: two", "silver")


@pytest.mark.parametrize("source", ["argument", "environment", "clone"])
def test_the_administrators_key_is_sent_for_its_operations(mode, stub, monkeypatch, source):
    stub.handle = lambda r: answer(PERMISSIONS if "permissions" in r.path else MODEL)
    if source == "environment":
        monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    client = mode.client(
        stub.url, **({"admin_api_key": "sk-admin"} if source == "argument" else {})
    )
    if source == "clone":
        client = client.with_options(admin_api_key="sk-admin")
    mode.items(client.fine_tuning.checkpoints.permissions.list("ft:m"))
    mode.run(client.models.retrieve("m"))
    assert [r.headers["authorization"] for r in stub.requests] == [
        "Bearer sk-admin",
        f"Bearer {KEY}",
    ]
    assert client.admin_api_key == "sk-admin"


def test_a_401_without_a_key_says_that_none_was_given(stub):
    stub.handle = lambda _: answer(REFUSED, 401)
    with (
        Client(base_url=stub.url) as client,
        pytest.raises(tunesmith.AuthenticationError) as caught,
    ):
        client.models.retrieve("m")
    assert "requires an API key, but none was given" in str(caught.value)
    with (
        Client("local", base_url=stub.url) as client,
        pytest.raises(tunesmith.AuthenticationError) as caught,
    ):
        client.models.retrieve("m")
    assert str(caught.value).startswith("The API key is wrong")


@pytest.mark.parametrize(("level", "lines"), [("debug", 5), ("info", 3), ("", 0), ("loud", 0)])
def test_logs_on_stderr(stub, level, lines):
    stub.then(answer({}, 500), answer(MODEL, x_request_id="req_5"))
    code = (
        (
            "import tunesmith; tunesmith.Client(base_url=URL, default_headers={'X-Api-Key': KEY},"
            "retry=tunesmith.RetryPolicy(1, initial_delay=0.01)).models.retrieve('m', extra_query={'a': 'b'})"
        )
        .replace("URL", repr(stub.url))
        .replace("KEY", repr(KEY))
    )
    environment = {**os.environ, "TUNESMITH_API_KEY": KEY, "OPENAI_LOG": level}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)  # fmt: skip
    shown = [line for line in done.stderr.splitlines() if "tunesmith" in line]
    assert len(shown) == lines
    if lines:
        assert "status 200 " in shown[-1]
        assert "req_5" in shown[-1]
        assert "a=b" not in done.stderr
    assert "sentinel" not in done.stderr


def test_the_logger_can_be_configured_by_the_user(mode, stub, caplog):
    stub.handle = lambda _: answer(MODEL)
    client = mode.client(stub.url)
    with caplog.at_level(logging.INFO, "tunesmith"):
        mode.run(client.models.retrieve("m"))
    assert [r.name for r in caplog.records if r.name == "tunesmith"] == ["tunesmith"]


def test_each_time_limit_has_its_own_error(stub, transport, completion):
    """On both transports: the pool, the connection, the read and the total."""
    stub.handle = lambda r: (
        sse(completion, done=False, tail=[0.3]) if "compl" in r.path else answer(MODEL)
    )

    def caught(url: str = stub.url, **limits: Any) -> type[BaseException]:
        client = Client(
            KEY, base_url=url, transport=transport, max_connections=1,
            timeout=Timeout(3, **limits), retry=RetryPolicy(0),
        )  # fmt: skip
        with client, client.completions.create(model="m", prompt="p", stream=True) as stream:
            next(stream)
            try:
                if "pool" in limits or "total" in limits:
                    client.models.retrieve("m")
                list(stream)
            except tunesmith.APIError as error:
                return type(error)
        return type(None)

    assert caught(pool=0.05) is tunesmith.PoolTimeoutError
    assert caught(read=0.05) is tunesmith.ReadTimeoutError
    assert caught(pool=2, total=0.15) is tunesmith.DeadlineExceededError


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog is silent on Linux")
def test_the_error_of_a_failed_connection(mode, transport):
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.settimeout(0)
        one.connect_ex(address)
    client = mode.client(
        f"http://127.0.0.1:{address[1]}/v1",
        transport=transport,
        timeout=Timeout(3, connect=0.05),
        retry=RetryPolicy(0),
    )
    with pytest.raises(tunesmith.ConnectTimeoutError, match=r"within 0\.05 s"):
        mode.run(client.models.retrieve("m"))
    for one in [*waiting, listener]:
        one.close()


def test_streams_arrive_chunk_by_chunk(mode, stub, completion):
    """What has arrived is returned at once, however little it is."""
    import threading

    read = threading.Event()
    stub.handle = lambda _: sse(
        completion, done=False, tail=[read, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]
    )

    async def one() -> None:
        stream = await client.completions.create(model="m", prompt="p", stream=True)
        await anext(stream)
        read.set()
        assert [item async for item in stream] == []

    client = mode.client(stub.url, timeout=Timeout(5))
    if mode.runner:
        mode.runner.run(one())
    else:
        stream = client.completions.create(model="m", prompt="p", stream=True)
        next(stream)
        read.set()
        assert list(stream) == []


def test_a_client_of_httpx2(mode, stub):
    httpx2 = pytest.importorskip("httpx2")
    stub.handle = lambda _: answer(MODEL)
    made = (httpx2.AsyncClient if mode.runner else httpx2.Client)(headers={"x-mine": "1"})
    client = mode.client(stub.url, http_client=made, retry=RetryPolicy(0))
    assert mode.run(client.models.retrieve("m")).id == "m"
    assert stub.requests[0].headers["x-mine"] == "1"
    stub.close()
    with pytest.raises(tunesmith.APIConnectionError, match="tunesmith serve"):
        mode.run(client.models.retrieve("m"))


def test_an_httpx_client_of_the_wrong_mode_is_rejected(mode, stub):
    made = httpx.Client() if mode.runner else httpx.AsyncClient()
    with pytest.raises(tunesmith.ConfigurationError, match="http_client must be"):
        mode.run(mode.client(stub.url, http_client=made).models.retrieve("m"))
