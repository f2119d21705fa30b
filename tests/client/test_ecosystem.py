"""The client among other libraries: what they look for on a client, its methods and responses."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import json
import pickle
import warnings
from typing import Any
from unittest import mock

import httpx
import pytest
import tenacity

from http_stub import answer, sse
from tunesmith import (
    AsyncAzureClient,
    AsyncClient,
    AsyncPage,
    AzureClient,
    Client,
    ConfigurationError,
    Page,
)
from tunesmith.core.options import is_omitted
from tunesmith.core.redact import Secret

KEY = "sk-sentinel-do-not-show-4711"


def foreign(name: str, module: str = "openai", *, truth: bool = False) -> Any:
    """An instance of a class that another package defines."""
    kind = type(name, (), {"__module__": module, "__bool__": lambda _: truth})
    return kind()


# Coroutine functions


def test_class_and_instance_of_the_async_client_have_coroutine_functions():
    for name in ("get", "post", "put", "patch", "delete", "close", "aclose"):
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name
        assert inspect.iscoroutinefunction(getattr(AsyncClient("k"), name)), name
    assert not inspect.iscoroutinefunction(Client.get)


def test_raw_operations_are_coroutine_functions():
    client = AsyncClient("k")
    for owner in (client.files.with_raw_response, client.with_raw_response.files):
        for name in ("create", "retrieve", "list", "delete", "content"):
            assert inspect.iscoroutinefunction(getattr(owner, name)), name


def test_tenacity_repeats_an_async_operation(stub, file_object):
    stub.then(answer({}, 503), answer({}, 503), answer(file_object))
    client = AsyncClient(KEY, base_url=stub.url, max_retries=0)
    retried = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
    retrieve = retried(client.files.retrieve)

    async def main() -> Any:
        file = await retrieve("file-1")
        await client.close()
        return file

    assert inspect.iscoroutinefunction(retrieve)
    assert asyncio.run(main()).id == "file-1"
    assert len(stub.requests) == 3


def test_create_autospec_awaits_what_is_awaited_and_keeps_signatures():
    fake = mock.create_autospec(AsyncClient("k"))
    create = fake.chat.completions.create
    assert isinstance(create, mock.AsyncMock)
    assert isinstance(fake.fine_tuning.jobs.wait, mock.AsyncMock)
    assert not isinstance(fake.files.list, mock.AsyncMock)
    create.return_value = "an answer"
    assert asyncio.run(create(model="m", messages=[])) == "an answer"
    with pytest.raises(TypeError, match="messages"):
        create(model="m", mesages=[])
    assert isinstance(mock.create_autospec(AsyncClient, instance=True).get, mock.AsyncMock)


def test_operations_of_a_class_can_be_patched(stub):
    place = "tunesmith.resources.chat_completions.ChatCompletions.create"
    client = Client("k", base_url=stub.url)
    for options in ({}, {"autospec": True}):
        with mock.patch(place, return_value="an answer", **options) as create:
            assert client.chat.completions.create(model="m", messages=[]) == "an answer"
        create.assert_called_once_with(model="m", messages=[])
    with mock.patch.object(client.chat.completions, "create") as create:
        client.chat.completions.create(model="m", messages=[])
    create.assert_called_once()
    assert stub.requests == []


# Settings that change


def test_settings_can_be_assigned_and_hold_from_then_on(mode, stub, file_object):
    stub.handle = lambda _: answer(file_object)
    client = mode.client("http://127.0.0.1:9/v1")
    files, raw, copied = client.files, client.files.with_raw_response, client.copy()
    client.base_url = stub.url + "/"
    client.api_key = "another"
    client.organization, client.project = "org-2", "proj-2"
    mode.run(files.retrieve("file-1"))
    mode.run(raw.retrieve("file-1"))
    for request in stub.requests:
        assert request.headers["authorization"] == "Bearer another"
        assert request.headers["openai-organization"] == "org-2"
        assert request.headers["openai-project"] == "proj-2"
    assert (client.base_url, client.api_key) == (stub.url, "another")
    assert (copied.base_url, copied.api_key) == ("http://127.0.0.1:9/v1", KEY)

    client.organization = client.project = None
    client.api_key = lambda: "made"
    mode.run(files.retrieve("file-1"))
    assert "openai-organization" not in stub.requests[-1].headers
    assert "openai-project" not in stub.requests[-1].headers
    assert stub.requests[-1].headers["authorization"] == "Bearer made"


def test_max_retries_and_timeout_can_be_assigned(mode, stub):
    client = mode.client(stub.url)
    client.max_retries = 0
    with pytest.raises(Exception, match="nothing queued"):
        mode.run(client.files.retrieve("file-1"))
    assert len(stub.requests) == 1
    client.timeout = 3
    assert client.timeout.read == 3
    client.timeout = httpx.Timeout(4, connect=2)
    assert (client.timeout.read, client.timeout.connect) == (4, 2)
    assert client.max_retries == 0


def test_assigned_settings_are_checked_as_at_construction():
    client = Client("k")
    with pytest.raises(ConfigurationError, match="base URL"):
        client.base_url = "nonsense"
    with pytest.raises(ConfigurationError, match="max_retries"):
        client.max_retries = -1
    assert client.base_url.startswith("http://127.0.0.1")


@pytest.mark.parametrize("kind", [AzureClient, AsyncAzureClient])
def test_an_azure_client_moves_as_well(kind):
    client = kind(
        azure_endpoint="https://one.openai.azure.com",
        api_version="2024-10-21",
        azure_ad_token="t",
    )
    client.base_url = "https://two.openai.azure.com/openai"
    client.api_key = "key"
    settings = client._settings
    assert settings.azure.root == "https://two.openai.azure.com/openai"
    assert settings.credential_headers(Secret("key")) == {"api-key": "key"}
    moved = client.with_options(base_url="https://three.openai.azure.com/openai")
    assert moved._settings.azure.root == "https://three.openai.azure.com/openai"


# Values of openai's classes


@pytest.mark.parametrize(
    "value", [foreign("Omit"), foreign("NotGiven", "openai._types"), foreign("NotGiven", "groq")]
)
def test_markers_of_openai_are_understood(mode, stub, completion, value):
    stub.handle = lambda _: answer(completion)
    client = mode.client(stub.url, timeout=value, max_retries=value)
    assert client.timeout == Client("k").timeout
    assert client.with_options(max_retries=value, timeout=value).max_retries == 2
    mode.run(
        client.completions.create(
            model="m", prompt="p", max_tokens=value, stream=value, timeout=value, seed=None,
            extra_headers={"User-Agent": value}, logit_bias={"1": value},
        )
    )  # fmt: skip
    assert stub.requests[0].json == {"model": "m", "prompt": "p", "seed": None, "logit_bias": {}}
    assert "tunesmith" not in stub.requests[0].headers.get("user-agent", "")


@pytest.mark.parametrize(
    "value",
    [
        foreign("Omit", truth=True),
        foreign("Other"),
        type("Omit", (dict,), {})(),
        None,
        "",
        0,
        False,
    ],
)
def test_other_values_are_no_markers(value):
    assert not is_omitted(value)


def test_timeouts_of_httpx_and_its_successor(mode, stub, file_object):
    httpx2 = pytest.importorskip("httpx2")
    stub.handle = lambda _: answer(file_object)
    for timeout in (httpx.Timeout(7, connect=2), httpx2.Timeout(7, connect=2)):
        client = mode.client(stub.url, timeout=timeout)
        assert (client.timeout.connect, client.timeout.read) == (2, 7)
        assert mode.run(client.files.retrieve("file-1", timeout=timeout)).id == "file-1"


# Responses


def assert_http(response: Any, stub: Any, path: str) -> None:
    """The attributes of a response that code written for openai reads."""
    request = response.http_request
    assert (request.method, request.url) == ("GET", stub.url + path)
    assert request.headers["X-Stainless-Lang"] == "python"
    assert request.headers["user-agent"] == stub.requests[-1].headers["user-agent"]
    assert KEY not in repr(request) + str(dict(request.headers))
    assert response.headers["content-type"] == "application/json"
    assert response.status_code == 200
    assert response.url == request.url
    assert response.http_response.http_request == request


@pytest.mark.every_transport
def test_a_raw_response_is_closed_and_has_its_request(mode, stub, file_object):
    stub.handle = lambda _: answer(file_object)
    client = mode.client(stub.url)
    response = mode.run(client.files.with_raw_response.retrieve("file-1"))
    assert_http(response, stub, "/files/file-1")
    assert_http(response.http_response, stub, "/files/file-1")
    assert response.is_closed is True
    assert response.http_response.json() == file_object
    assert response.http_response.content == response.content
    if mode.runner is None:
        response.close()
    else:
        mode.run(response.aclose())


@pytest.mark.every_transport
def test_a_streamed_response_is_closed_at_the_end_of_its_block(mode, stub, file_object):
    stub.handle = lambda _: answer(file_object)
    client = mode.client(stub.url)
    streamed = client.files.with_streaming_response

    def blocking() -> Any:
        with streamed.retrieve("file-1") as response:
            assert_http(response, stub, "/files/file-1")
            assert not response.is_closed
            assert response.parse().id == "file-1"
            assert response.is_closed
        with streamed.retrieve("file-1") as response:
            assert not response.is_closed
        return response

    async def awaited() -> Any:
        async with streamed.retrieve("file-1") as response:
            assert_http(response, stub, "/files/file-1")
            assert not response.is_closed
            assert (await response.parse()).id == "file-1"
            assert response.is_closed
        async with streamed.retrieve("file-1") as response:
            assert not response.is_closed
            await response.aclose()
            assert response.is_closed
        return response

    assert (mode.run(awaited()) if mode.runner else blocking()).is_closed


@pytest.mark.every_transport
def test_the_response_of_a_stream_closes_it(mode, stub, completion):
    stub.handle = lambda _: sse(completion, completion)
    client = mode.client(stub.url, max_connections=1)
    for _ in range(3):
        stream = mode.run(client.completions.create(model="m", prompt="p", stream=True))
        assert not stream.response.is_closed
        assert stream.response.http_request.content == stub.requests[-1].body
        assert stream.response.http_request.headers["accept"] == "text/event-stream"
        if mode.runner is None:
            stream.response.close()
        else:
            mode.run(stream.response.aclose())
        assert stream.response.is_closed


def test_closing_in_the_wrong_mode_says_what_to_call(mode, stub, completion):
    stub.handle = lambda _: sse(completion)
    stream = mode.run(mode.client(stub.url).completions.create(model="m", prompt="p", stream=True))
    if mode.runner is None:
        with pytest.raises(RuntimeError, match=r"call close\(\)"):
            asyncio.run(stream.response.aclose())
        stream.close()
    else:
        with pytest.raises(RuntimeError, match=r"await aclose\(\)"):
            stream.response.close()
        mode.run(stream.close())


def test_aclosing_takes_what_is_asynchronous(stub, completion):
    stub.handle = lambda _: sse(completion, completion)

    async def main() -> None:
        async with contextlib.aclosing(AsyncClient(KEY, base_url=stub.url)) as client:
            asked = client.completions.create(model="m", prompt="p", stream=True)
            async with contextlib.aclosing(await asked) as stream:
                await anext(stream)
            assert stream.response.is_closed

    asyncio.run(main())


def test_the_request_of_a_redirected_call_is_the_last_one(mode, stub, file_object):
    stub.then(answer({}, 307, location="/v1/files/moved"), answer(file_object))
    client = mode.client(stub.url)
    response = mode.run(client.files.with_raw_response.retrieve("file-1"))
    assert response.http_request.url == f"{stub.url}/files/moved"


def test_a_pickled_response_has_no_credential(mode, stub, file_object):
    stub.then(answer(file_object))
    response = mode.run(mode.client(stub.url).files.with_raw_response.retrieve("file-1"))
    text = pickle.dumps(response)
    assert KEY.encode() not in text
    again = pickle.loads(text)
    assert again.parse() == response.parse()
    assert again.http_request == response.http_request
    assert again.is_closed


def test_a_list_is_a_page_in_every_view(mode, stub, file_object):
    def page_of(request: Any) -> Any:
        more = "after" not in request.path
        file = {**file_object, "id": "file-1" if more else "file-2"}
        return answer({"object": "list", "data": [file], "has_more": more})

    stub.handle = page_of
    client, kind = mode.client(stub.url), Page if mode.runner is None else AsyncPage
    page = mode.run(client.files.with_raw_response.list()).parse()
    assert isinstance(page, kind)
    assert len(mode.items(page)) == 2

    async def streamed() -> Any:
        async with client.files.with_streaming_response.list() as response:
            return await response.parse()

    def streamed_blocking() -> Any:
        with client.files.with_streaming_response.list() as response:
            return response.parse()

    page = mode.run(streamed()) if mode.runner else streamed_blocking()
    assert isinstance(page, kind)
    assert len(mode.items(page)) == 2


def test_the_streamed_content_of_a_file_parses_to_bytes(mode, stub):
    stub.handle = lambda _: answer([1, 2])
    client = mode.client(stub.url)

    async def streamed() -> Any:
        async with client.files.with_streaming_response.content("file-1") as response:
            return await response.parse()

    def streamed_blocking() -> Any:
        with client.files.with_streaming_response.content("file-1") as response:
            return response.parse()

    assert (mode.run(streamed()) if mode.runner else streamed_blocking()) == b"[1, 2]"


# Deprecated operations


def finished(mode: Any, asked: Any) -> Any:
    return mode.run(asked) if inspect.isawaitable(asked) else asked


def test_deprecated_operations_warn_in_the_name_of_the_caller(mode, stub, file_object):
    stub.handle = lambda _: answer({"object": "list", "data": [], "has_more": False})
    client = mode.client(stub.url)
    permissions = client.fine_tuning.checkpoints.permissions
    calls = {
        "Use content": lambda: client.files.retrieve_content("file-1"),
        "Use list": lambda: permissions.retrieve("ft:m"),
    }
    for advice, call in calls.items():
        with pytest.warns(DeprecationWarning, match=advice):
            mode.run(call())
    for view in (permissions.with_raw_response, permissions.with_streaming_response):
        with pytest.warns(DeprecationWarning, match="Use list"):
            finished(mode, view.retrieve("ft:m"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Client(KEY, base_url=stub.url) as blocking:
            blocking.files.retrieve_content("file-1")
    assert [warning.filename for warning in caught] == [__file__]


# Programs that trace, copy and distribute


def test_what_is_set_on_a_view_stays(mode, stub):
    client = mode.client(stub.url)
    for owner in (client, client.files):
        for name in ("with_raw_response", "with_streaming_response"):
            assert getattr(owner, name) is getattr(owner, name)
    client.files.with_raw_response.retrieve = lambda _: "traced"
    assert client.files.with_raw_response.retrieve("file-1") == "traced"
    assert client.copy().files.with_raw_response is not client.files.with_raw_response


def test_wrapping_a_class_s_operation_keeps_both_modes(mode, stub, completion):
    """As tracers do it: the attribute is read from the class and replaced by a descriptor."""
    stub.handle = lambda _: answer(completion)
    calls = []

    class Traced:
        def __init__(self, wrapped: Any) -> None:
            self.wrapped = wrapped

        def __get__(self, instance: Any, owner: type) -> Any:
            calls.append(owner.__name__)
            return self.wrapped.__get__(instance, owner)

    from tunesmith.resources.completions import Completions

    with mock.patch.object(Completions, "create", Traced(vars(Completions)["create"])):
        completions = mode.client(stub.url).completions
        assert mode.run(completions.create(model="m", prompt="p")).id == "cmpl-1"
        assert inspect.iscoroutinefunction(completions.create) == (mode.runner is not None)
    assert calls[0] == "Completions"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_objects_can_be_copied_with_the_client_they_hold(mode, stub, file_object, copied):
    stub.handle = lambda _: answer(file_object)
    holder = {"client": mode.client(stub.url, organization="org-1"), "name": "agent"}
    client = copied(holder["client"]) if copied is copy.copy else copied(holder)["client"]
    assert client is not holder["client"]
    assert mode.run(holder["client"].files.retrieve("file-1")).id == "file-1"
    assert mode.run(client.files.retrieve("file-1")).id == "file-1"
    assert stub.requests[-1].headers["openai-organization"] == "org-1"
    assert stub.connections == 1
    with pytest.raises(TypeError, match="Create one where it is used"):
        pickle.dumps(client)


def test_the_former_place_of_parse(mode, stub):
    client = mode.client(stub.url)
    assert client.beta.chat.completions.parse.__func__ is client.chat.completions.parse.__func__
    assert client.beta.chat.completions.stream.__func__ is client.chat.completions.stream.__func__


def test_content_can_be_read_as_openai_s_async_client_reads_it(stub, tmp_path):
    stub.handle = lambda _: answer([1, 2])

    async def main() -> None:
        async with AsyncClient(KEY, base_url=stub.url) as client:
            content = await client.files.content("file-1")
        assert [one async for one in content.aiter_bytes(4)] == list(content.iter_bytes(4))
        assert [one async for one in content.aiter_raw()] == [b"[1, 2]"]
        assert [one async for one in content.aiter_text(4)] == ["[1, ", "2]"]
        assert [one async for one in content.aiter_lines()] == ["[1, 2]"]
        await content.astream_to_file(tmp_path / "content")
        await content.aclose()
        assert (tmp_path / "content").read_bytes() == await content.aread()

    asyncio.run(main())


def test_a_page_is_written_as_the_server_sent_it(mode, stub, file_object):
    sent = {"object": "list", "data": [{**file_object, "filename": "\u00e4"}], "has_more": False}
    stub.handle = lambda _: answer(sent)
    page = mode.run(mode.client(stub.url).files.list())
    assert page.to_dict() == sent
    assert json.loads(page.to_json()) == sent


def test_the_defaults_of_a_client_can_be_read():
    client = Client(KEY, default_headers={"X-Team": "a"}, default_query={"v": 1})
    assert client.default_headers["x-team"] == "a"
    assert KEY not in str(client.default_headers)
    assert client.default_query == {"v": 1}
