"""Which URLs lead to this machine, and which share connections."""

from __future__ import annotations

import pytest

from tunesmith.core.urls import is_loopback_host, is_loopback_url, origin_of, same_origin


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("engine.localhost", True),
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_loopback_hosts(host, expected):
    assert is_loopback_host(host) is expected


def test_loopback_urls():
    assert is_loopback_url("http://[::1]:8712/v1")
    assert is_loopback_url("http://user@localhost/v1")
    assert not is_loopback_url("https://api.example/v1?host=localhost")


def test_origins():
    assert origin_of("https://a:8443/v1?x=1") == "https://a:8443"
    assert same_origin("https://a/x", "https://a:443/y")
    assert not same_origin("https://a/x", "http://a/x")
    assert not same_origin("https://a/x", "https://b/x")
