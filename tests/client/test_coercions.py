"""Values of the wrong kind: nothing is turned silently into something else."""

from __future__ import annotations

import enum
from collections import deque
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import tunesmith
from http_stub import Stub, answer, raw
from tunesmith import ConfigurationError, Timeout, omit
from tunesmith.core.request import json_body, query_string
from tunesmith.core.urls import with_query


class Kind(enum.Enum):
    SUPERVISED = "supervised"


# JSON bodies


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"messages": [{"content": b"hi"}]}, r"messages\[0\].content is of type bytes.*decode it"),
        ({"prompt": bytearray(b"hi")}, "prompt is of type bytearray"),
        ({"prompt": memoryview(b"hi")}, "prompt is of type memoryview"),
        ({"a": {"b": [{"c": object()}]}}, r"a.b\[0\].c is of type object"),
        ({"a": {b"key": 1}}, "a has a key of type bytes"),
        ({"prompt": (x for x in [b"a"])}, "prompt can be read only once"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_json_is_named_with_its_place(fields, match):
    with pytest.raises(TypeError, match=match):
        json_body(fields)


def test_a_file_handle_is_no_list_of_lines(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n")
    with (tmp_path / "a").open() as handle, pytest.raises(TypeError, match="content is of type"):
        json_body({"content": handle})


def test_a_frame_is_no_list_of_its_columns():
    class Frame:
        def __iter__(self) -> Any:
            return iter(["column"])

    with pytest.raises(TypeError, match="messages is of type Frame"):
        json_body({"messages": Frame()})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_represent_is_named(value):
    with pytest.raises(ValueError, match=r"a\[1\] is (nan|inf), which JSON cannot represent"):
        json_body({"a": [0, value]})


def test_a_body_that_contains_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested too deeply, or contains itself"):
        json_body({"a": endless})


def test_lists_of_other_kinds_are_arrays():
    numbers = SimpleNamespace(tolist=lambda: [1, 2])
    body = json_body(
        {
            "a": (x for x in [1]), "b": deque([2]), "c": range(2), "d": {"x": 1}.values(),
            "e": {3}, "f": numbers, "g": Kind.SUPERVISED, "h": (1, 2),
        }
    )  # fmt: skip
    assert body == (
        b'{"a":[1],"b":[2],"c":[0,1],"d":[1],"e":[3],"f":[1,2],"g":"supervised","h":[1,2]}'
    )


def test_a_marker_deep_in_a_body_is_not_sent():
    body = json_body({"a": omit, "b": {"c": omit, "d": [1, omit, {"e": tunesmith.NOT_GIVEN}]}})
    assert body == b'{"b":{"d":[1,{}]}}'


def test_a_body_with_bytes_is_refused_before_it_is_sent(mode, stub):
    client = mode.client(stub.url)
    messages: Any = [{"role": "user", "content": b"hi"}]
    with pytest.raises(TypeError, match=r"messages\[0\].content is of type bytes"):
        mode.run(client.chat.completions.create(model="m", messages=messages))
    assert stub.requests == []


# Ids, queries, header fields


@pytest.mark.parametrize("value", [3, b"file-1", ["file-1"]])
def test_an_id_is_text(mode, stub, value):
    client = mode.client(stub.url)
    with pytest.raises(TypeError, match="Expected text for `file_id`"):
        mode.run(client.files.retrieve(value))
    assert stub.requests == []


def test_an_object_in_place_of_its_id(mode, stub, job):
    stub.handle = lambda _: answer(job)
    client = mode.client(stub.url)
    found = mode.run(client.fine_tuning.jobs.retrieve("ftjob-1"))
    with pytest.raises(TypeError, match="not FineTuningJob: pass its id"):
        mode.run(client.fine_tuning.jobs.retrieve(found))
    with pytest.raises(ValueError, match="non-empty value for `file_id` but received None"):
        mode.run(client.files.retrieve(None))


def test_query_parameters():
    assert query_string({"a": True, "b": None, "c": 1.5, "d": Kind.SUPERVISED, "e": ["x", 2]}) == (
        "a=true&b=null&c=1.5&d=supervised&e%5B%5D=x&e%5B%5D=2"
    )
    for value in (b"file-1", object(), {1, 2}):
        with pytest.raises(TypeError, match="`after` is text"):
            query_string({"after": value})


def test_header_fields_are_text(stub, mode):
    with pytest.raises(ConfigurationError, match="'x' is not text but int"):
        mode.client(stub.url, default_headers={"x": 1})
    client = mode.client(stub.url, default_headers={"X-Kept": "a", "x-omitted": omit})
    with pytest.raises(TypeError, match="'x' of extra_headers is text, not int"):
        mode.run(client.models.retrieve("m", extra_headers={"x": 1}))
    stub.then(answer({"id": "m", "object": "model", "created": 1, "owned_by": "me"}))
    mode.run(client.models.retrieve("m"))
    assert stub.requests[0].headers["x-kept"] == "a"
    assert "x-omitted" not in stub.requests[0].headers


# Settings


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"api_key": b"sk-1"}, "An API key is text or a function"),
        ({"api_key": 3}, "An API key is text or a function"),
        ({"admin_api_key": b"sk-1"}, "An API key is text"),
        ({"organization": 3}, "'openai-organization' is not text"),
        ({"project": 3}, "'openai-project' is not text"),
        ({"max_connections": 0}, "max_connections is a whole number of 1 or more"),
        ({"max_connections": -1}, "max_connections"),
        ({"max_connections": True}, "max_connections"),
        ({"max_connections": "10"}, "max_connections"),
        ({"timeout": "30"}, "timeout is a number of seconds, a Timeout"),
        ({"timeout": True}, "timeout is a number of seconds, not True"),
        ({"timeout": -1}, "timeout is 0 seconds or more"),
        ({"timeout": float("nan")}, "timeout is 0 seconds or more"),
        ({"timeout": (5,)}, r"timeout is a number of seconds.*\(connect, read\)"),
        ({"timeout": (5, 60, 60)}, "timeout is a number of seconds"),
        ({"timeout": (5, "60")}, "The read timeout is a number of seconds"),
        ({"timeout": SimpleNamespace(total=3)}, "timeout is a number of seconds"),
        ({"base_url": b"http://h/v1"}, "is invalid"),
        ({"base_url": "http://h:99999/v1"}, "is invalid"),
        ({"base_url": "http://h/v 1"}, "is invalid"),
        ({"base_url": "h:8000/v1"}, "is invalid"),
    ],
    ids=repr,
)
def test_a_setting_of_the_wrong_kind_is_refused(settings, match):
    for kind in (tunesmith.Client, tunesmith.AsyncClient):
        with pytest.raises(ConfigurationError, match=match):
            kind(**{"api_key": "k", **settings})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"initial_delay": -1}, "initial_delay is 0 seconds or more"),
        ({"max_delay": "8"}, "max_delay is a number of seconds"),
        ({"jitter": 2}, "jitter is a fraction"),
        ({"max_retry_after": None}, "max_retry_after must be a finite number"),
        ({"statuses": {"429"}}, "statuses are numbers"),
    ],
    ids=repr,
)
def test_a_retry_policy_of_the_wrong_kind_is_refused(settings, match):
    with pytest.raises(ConfigurationError, match=match):
        tunesmith.RetryPolicy(**settings)


def test_a_wait_of_the_wrong_kind_is_refused(mode, stub):
    client = mode.client(stub.url)
    for options in ({"poll_interval": -1}, {"max_wait_seconds": "30"}, {"poll_interval": True}):
        with pytest.raises(ConfigurationError, match="seconds"):
            mode.run(client.files.wait_for_processing("file-1", **options))
    assert stub.requests == []


def test_a_wait_for_a_job_of_the_wrong_kind_is_refused(mode, stub):
    jobs = mode.client(stub.url).fine_tuning.jobs
    for options in ({"poll": -1}, {"poll": "2"}, {"timeout": "30"}, {"timeout": float("nan")}):
        with pytest.raises(ConfigurationError, match="seconds"):
            mode.run(jobs.wait("ftjob-1", **options))
        with pytest.raises(ConfigurationError, match="seconds"):
            mode.run(jobs.wait("ftjob-1", on_event=print, **options))
    with pytest.raises(ConfigurationError, match="seconds"):
        mode.items(jobs.events("ftjob-1", poll=-1))
    assert stub.requests == []


# Timeouts


def test_a_pair_of_timeouts_means_connect_and_read():
    assert Timeout.of((5, 60)) == Timeout(600.0, connect=5, read=60)
    assert Timeout.of((5, None)) == Timeout(600.0, connect=5, read=None)
    assert Timeout.of((1, 2, 3, 4)) == Timeout(connect=1, read=2, write=3, pool=4)
    assert Timeout.of(float("inf")) == Timeout(None)
    assert tunesmith.Client("k", timeout=(5, 60)).timeout == Timeout.of((5, 60))


def test_a_pair_of_timeouts_is_applied(mode, stub):
    stub.then(raw(1.0, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
    client = mode.client(stub.url, max_retries=0, retry=tunesmith.RetryPolicy(0))
    with pytest.raises(tunesmith.ReadTimeoutError):
        mode.run(client.models.retrieve("m", timeout=(5, 0.05)))


# Base URLs


def requested(mode: Any, stub: Stub, base: str, **settings: Any) -> tuple[str, list[Any]]:
    stub.handle = lambda _: answer({"object": "list", "data": [], "has_more": False})
    client = mode.client(base, **settings)
    mode.run(client.files.list(limit=3))
    parts = urlsplit(stub.requests[-1].path)
    return parts.path, parse_qsl(parts.query, keep_blank_values=True)


def test_a_base_url_keeps_its_query(mode, stub):
    base = f"{stub.url}/?api-version=2024-10-21&flag=&a=1&a=2"
    kept = [("api-version", "2024-10-21"), ("flag", ""), ("a", "1"), ("a", "2")]
    assert requested(mode, stub, base) == ("/v1/files", [*kept, ("limit", "3")])
    assert requested(mode, stub, base, default_query={"a": 3, "b": 4}) == (
        "/v1/files",
        [*kept[:2], ("a", "3"), ("b", "4"), ("limit", "3")],
    )
    client = mode.client(base)
    assert client.base_url == f"{stub.url}?api-version=2024-10-21&flag=&a=1&a=2"
    assert requested(mode, stub, client.base_url) == ("/v1/files", [*kept, ("limit", "3")])
    assert client.with_options(timeout=3).base_url == client.base_url
    assert client.with_options(base_url=stub.url).base_url == stub.url


@pytest.mark.parametrize("base", ["{}/", "{}//", " {}\n", "{}?", "{}#top", "{}/#top"])
def test_a_base_url_is_joined(mode, stub, base):
    assert requested(mode, stub, base.format(stub.url)) == ("/v1/files", [("limit", "3")])


def test_the_query_of_a_base_url_stays_with_its_server(mode, stub):
    other = Stub()
    try:
        other.handle = lambda _: answer({})
        client = mode.client(f"{stub.url}?sig=secret")
        mode.run(client.get(f"{other.url}/thing", cast_to=dict))
        assert other.requests[0].path == "/v1/thing"
    finally:
        other.close()


def test_with_query():
    assert with_query("http://h/a", "", "") == "http://h/a"
    assert with_query("http://h/a?b=1", "c=%2F", "d=2") == "http://h/a?b=1&c=%2F&d=2"


def test_an_azure_endpoint_with_a_query(mode, stub):
    kind = tunesmith.AsyncAzureClient if mode.runner else tunesmith.AzureClient
    stub.handle = lambda _: answer({"object": "list", "data": [], "has_more": False})
    root = stub.url.removesuffix("/v1")
    client = kind(azure_endpoint=f"{root}/?api-version=2024-10-21", api_key="k")
    mode.clients.append(client)
    mode.run(client.files.list())
    assert stub.requests[-1].path == "/openai/files?api-version=2024-10-21"
    with pytest.raises(ConfigurationError, match="is the URL of one operation"):
        kind(
            azure_endpoint=f"{root}/openai/deployments/d/chat/completions",
            api_key="k",
            api_version="v",
        )
