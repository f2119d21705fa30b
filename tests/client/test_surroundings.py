"""What the environment says of the network holds on every transport: proxies and their exceptions."""

from __future__ import annotations

import base64
import importlib.util
import socket
from typing import Any

import pytest

import tunesmith
from http_stub import answer, raw
from tunesmith import RetryPolicy
from tunesmith.transport.proxies import environment_proxy

MODEL = {"id": "m", "created": 1, "owned_by": "me"}
SENTINEL = "sk-sentinel-do-not-show-4711"
NO_RETRY = RetryPolicy(0)
TARGET = "http://models.test:8080/v1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def proxy_url(stub: Any, login: str = "") -> str:
    return f"http://{login}127.0.0.1:{stub.port}"


@pytest.mark.every_transport
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_request_goes_through_the_proxy_of_the_environment(mode, stub, monkeypatch, variable):
    monkeypatch.setenv(variable, proxy_url(stub, f"me:{SENTINEL}@"))
    stub.handle = lambda _: answer(MODEL)
    assert mode.run(mode.client(TARGET).models.retrieve("m")).id == "m"
    sent = stub.requests[0]
    assert sent.path == f"{TARGET}/models/m"
    expected = base64.b64encode(f"me:{SENTINEL}".encode()).decode()
    assert sent.headers["proxy-authorization"] == f"Basic {expected}"


@pytest.mark.every_transport
@pytest.mark.parametrize("no_proxy", ["models.test", ".test", "models.test:8080", "other, *.test"])
def test_a_server_in_no_proxy_is_reached_directly(mode, stub, monkeypatch, no_proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy_url(stub))
    monkeypatch.setenv("NO_PROXY", no_proxy)
    client = mode.client(TARGET, retry=NO_RETRY)
    with pytest.raises(
        tunesmith.APIConnectionError, match="No connection to http://models"
    ) as found:
        mode.run(client.models.retrieve("m"))
    assert "proxy" not in str(found.value)
    assert stub.requests == []


@pytest.mark.every_transport
@pytest.mark.parametrize("no_proxy", ["10.0.0.0/8", "models.test:9", "odels.test", "test:8080x"])
def test_a_server_that_is_not_in_no_proxy_is_not_reached_directly(
    mode, stub, monkeypatch, no_proxy
):
    monkeypatch.setenv("HTTP_PROXY", proxy_url(stub))
    monkeypatch.setenv("NO_PROXY", no_proxy)
    stub.handle = lambda _: answer(MODEL)
    assert mode.run(mode.client(TARGET).models.retrieve("m")).id == "m"


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://10.1.2.3/v1", "10.0.0.0/8", True),
        ("http://11.1.2.3/v1", "10.0.0.0/8", False),
        ("http://10.1.2.3:81/v1", "10.1.2.3:80", False),
        ("http://10.1.2.3:81/v1", "10.1.2.3:81", True),
        ("https://10.1.2.3/v1", "10.1.2.3:443", True),
        ("http://[fd00::1]/v1", "fd00::/8", True),
        ("http://[fd00::1]:80/v1", "[fd00::1]:80", True),
        ("http://[fe00::1]/v1", "fd00::/8", False),
        ("http://[fd07:b51a:cc66:f0::5]/v1", "::1/128,[::1],fd07:b51a:cc66:f0::/64", True),
        ("http://a.example.com/v1", "example.com", True),
        ("http://example.com/v1", ".example.com", True),
        ("http://badexample.com/v1", "example.com", False),
        ("http://EXAMPLE.com/v1", "Example.Com", True),
        ("http://a.example.com./v1", "example.com", True),
        ("http://anything/v1", "*", True),
        ("http://a.b/v1", " , ,x a.b", True),
        ("http://a.b/v1", "", False),
        ("http://localhost:1/v1", "", True),
        ("http://127.0.0.5:1/v1", "", True),
        ("http://[::1]:1/v1", "", True),
    ],
)
def test_what_no_proxy_means(monkeypatch, url, no_proxy, direct):
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert environment_proxy(url) == (None if direct else "http://proxy:3128")


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("socks://proxy:1080", "socks5://proxy:1080"),
        ("SOCKS5H://proxy:1080/", "socks5h://proxy:1080/"),
    ],
)
def test_how_a_proxy_may_be_written(monkeypatch, value, proxy):
    monkeypatch.setenv("all_proxy", value)
    assert environment_proxy("https://models.test/v1") == proxy


@pytest.mark.every_transport
@pytest.mark.parametrize("proxy", ["ftp://me:{}@proxy:1", "http://me:{}@proxy:99999", "socks4://me:{}@p:1", "http://"])  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_named(mode, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy.format(SENTINEL))
    with pytest.raises(tunesmith.ConfigurationError, match="The proxy") as found:
        mode.run(mode.client(TARGET).models.retrieve("m"))
    assert SENTINEL not in str(found.value)


@pytest.mark.every_transport
@pytest.mark.parametrize("target", [TARGET, "https://models.test/v1"])
def test_a_dead_proxy_is_named_without_its_password(mode, monkeypatch, target):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"http://me:{SENTINEL}@127.0.0.1:{port}")
        with pytest.raises(tunesmith.APIConnectionError) as found:
            mode.run(mode.client(target, retry=NO_RETRY).models.retrieve("m"))
    assert f"through the proxy http://127.0.0.1:{port}:" in str(found.value)
    assert "NO_PROXY" in str(found.value)
    assert SENTINEL not in repr(vars(found.value)) + str(found.value)


@pytest.mark.every_transport
@pytest.mark.parametrize(("status", "retried"), [(407, False), (403, False), (503, True)])
def test_a_proxy_that_refuses_to_connect(mode, stub, monkeypatch, status, retried):
    monkeypatch.setenv("HTTPS_PROXY", proxy_url(stub))
    stub.handle = lambda _: raw(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status)
    # pyreqwest does not say with which status a proxy refuses, except for 407.
    retried = retried or (mode.transport == "fast" and status != 407)
    with pytest.raises(tunesmith.APIConnectionError, match=r"(?i)proxy") as found:
        mode.run(mode.client("https://models.test/v1").models.retrieve("m"))
    assert found.value.retryable is retried
    assert stub.requests[0].method == "CONNECT"


@pytest.mark.skipif(
    importlib.util.find_spec("socksio") is not None, reason="the extra is installed"
)
def test_a_socks_proxy_without_the_extra_names_the_extra(mode, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(tunesmith.MissingExtraError, match=r"\[socks\]"):
        mode.run(mode.client(TARGET).models.retrieve("m"))


@pytest.mark.every_transport
def test_a_change_of_the_environment_reaches_the_next_connection(mode, stub, monkeypatch):
    stub.handle = lambda _: answer(MODEL)
    client = mode.client(TARGET, retry=NO_RETRY)
    with pytest.raises(tunesmith.APIConnectionError):
        mode.run(client.models.retrieve("m"))
    monkeypatch.setenv("HTTP_PROXY", proxy_url(stub))
    assert mode.run(client.models.retrieve("m")).id == "m"


@pytest.mark.every_transport
@pytest.mark.parametrize("no_proxy", ["localhost,127.0.0.0/8,::1/128", "::1,[::1]", "fe80::/10"])
def test_networks_of_version_6_in_no_proxy_break_nothing(mode, stub, monkeypatch, no_proxy):
    """As container tools write them; httpx takes them for invalid URLs."""
    monkeypatch.setenv("HTTP_PROXY", proxy_url(stub))
    monkeypatch.setenv("NO_PROXY", no_proxy)
    stub.handle = lambda _: answer(MODEL)
    assert mode.run(mode.client(TARGET).models.retrieve("m")).id == "m"
    assert mode.run(mode.client(stub.url).models.retrieve("m")).id == "m"


def test_http2_follows_the_same_rules(mode, stub, monkeypatch):
    pytest.importorskip("h2")
    stub.handle = lambda _: answer(MODEL)
    monkeypatch.setenv("HTTP_PROXY", proxy_url(stub))
    client = mode.client(TARGET, transport="httpx", http2=True, retry=NO_RETRY)
    assert mode.run(client.models.retrieve("m")).id == "m"
    monkeypatch.setenv("NO_PROXY", "models.test:8080")
    with pytest.raises(tunesmith.APIConnectionError):
        mode.run(client.models.retrieve("m"))
    assert len(stub.requests) == 1
