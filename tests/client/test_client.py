"""The client itself: settings, environment, secrets, clones, forks, loops, user-made transports."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import pickle
import threading
import traceback
import warnings
from typing import Any

import httpx
import pytest

import tunesmith
from http_stub import HANG_UP, answer, raw
from tunesmith import AsyncAzureClient, AsyncClient, AzureClient, Client, Hooks, Timeout
from tunesmith.client import DEFAULT_BASE_URL

KEY = "sk-sentinel-do-not-show-4711"
MODEL = {"id": "m", "created": 1, "owned_by": "me"}


def test_defaults():
    client = Client()
    assert client.base_url == DEFAULT_BASE_URL == "http://127.0.0.1:8712/v1"
    assert (client.api_key, client.max_retries) == ("local", 2)
    assert (client.timeout.read, client.timeout.connect, client.timeout.total) == (600, 5, None)


def test_arguments_take_precedence_over_the_environment(monkeypatch):
    for name, value in {
        "API_KEY": "o",
        "BASE_URL": "http://o/v1/",
        "ORG_ID": "oo",
        "PROJECT_ID": "op",
    }.items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    client = Client()
    assert (client.api_key, client.base_url, client.organization, client.project) == (
        "o",
        "http://o/v1",
        "oo",
        "op",
    )
    for name, value in {
        "API_KEY": "t",
        "BASE_URL": "http://t/v1",
        "ORG_ID": "to",
        "PROJECT_ID": "tp",
    }.items():
        monkeypatch.setenv(f"TUNESMITH_{name}", value)
    client = AsyncClient()
    assert (client.api_key, client.base_url, client.organization, client.project) == (
        "t",
        "http://t/v1",
        "to",
        "tp",
    )
    client = Client("k", base_url="http://k", organization="ko", project="kp")
    assert (client.api_key, client.base_url, client.organization, client.project) == (
        "k",
        "http://k",
        "ko",
        "kp",
    )


def test_a_missing_key_says_how_to_set_one():
    with pytest.raises(tunesmith.ConfigurationError, match=r"TUNESMITH_API_KEY or OPENAI_API_KEY"):
        Client(base_url="https://api.example.com/v1")


@pytest.mark.parametrize("url", ["localhost:8712", "ftp://a/v1", "http://", "nonsense"])
def test_an_invalid_base_url_is_rejected(url):
    with pytest.raises(tunesmith.ConfigurationError, match="is invalid"):
        Client("k", base_url=url)


def test_what_is_sent(mode, stub):
    stub.handle = lambda _: answer(MODEL)
    client = mode.client(
        stub.url,
        organization="org",
        project="proj",
        default_headers={"X-A": "1"},
        default_query={"q": "1"},
    )
    mode.run(client.models.retrieve("m", extra_headers={"X-B": "2"}, extra_query={"r": [1, 2]}))
    headers = stub.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org", "proj")
    assert (headers["x-a"], headers["x-b"]) == ("1", "2")
    assert headers["user-agent"].startswith("tunesmith/")
    assert stub.requests[0].path == "/v1/models/m?q=1&r%5B%5D=1&r%5B%5D=2"


def test_clones(mode, stub):
    stub.handle = lambda _: answer(MODEL)
    client = mode.client(stub.url, default_headers={"x-a": "1"})
    clone = client.with_options(api_key="other", max_retries=7, default_headers={"x-b": "2"})
    mode.run(client.models.retrieve("m"))
    mode.run(clone.models.retrieve("m"))
    first, second = (request.headers for request in stub.requests)
    assert "x-b" not in first
    assert (second["authorization"], second["x-a"], second["x-b"]) == ("Bearer other", "1", "2")
    assert (clone.max_retries, client.max_retries) == (7, 2)
    assert stub.connections == 1
    limited = clone.with_options(timeout=3)
    mode.run(limited.models.retrieve("m"))
    assert (limited.timeout.read, clone.timeout.read) == (3, 600)
    # Time limits of the fast transport belong to its connections.
    assert stub.connections == (2 if mode.transport == "fast" else 1)
    bare = client.copy(set_default_headers={"x-c": "3"}, set_default_query={"q": "1"})
    mode.run(bare.models.retrieve("m"))
    assert "x-a" not in stub.requests[-1].headers
    assert stub.requests[-1].headers["x-c"] == "3"


def test_hooks(mode, stub):
    stub.then(answer({}, 500), answer(MODEL, x_request_id="req_5"))
    seen: list[Any] = []
    hooks = Hooks(before=seen.append, after=seen.append, retry=seen.append)
    client = mode.client(stub.url, hooks=hooks)
    mode.run(client.models.retrieve("m"))
    assert [type(one).__name__ for one in seen] == [
        "RequestRecord", "ResponseRecord", "RetryRecord", "RequestRecord", "ResponseRecord",
    ]  # fmt: skip
    assert (seen[-1].status, seen[-1].request_id, seen[-1].attempt) == (200, "req_5", 2)
    assert KEY not in repr(seen)


def test_a_key_from_a_function(mode, stub):
    stub.handle = lambda _: answer(MODEL)
    keys = iter(["one", "two"])

    async def next_key() -> str:
        return next(keys)

    client = mode.client(stub.url).with_options(
        api_key=next_key if mode.runner else lambda: next(keys)
    )
    for key in ("one", "two"):
        mode.run(client.models.retrieve("m"))
        assert stub.requests[-1].headers["authorization"] == f"Bearer {key}"


def everything(error: BaseException | None) -> str:
    text = []
    while error is not None:
        summary = traceback.TracebackException.from_exception(error, capture_locals=True)
        text += [*summary.format(), repr(vars(error)), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "".join(text)


def test_the_key_appears_nowhere(mode, stub, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    client = mode.client(stub.url)
    shown = [repr(client), str(vars(client)), repr(client.models), repr(client._settings)]
    for fault in (raw(HANG_UP), answer({"error": {"message": "No."}}, 401), answer({"x": 1})):
        stub.handle = lambda _, fault=fault: fault
        with pytest.raises(tunesmith.TunesmithError) as caught:
            mode.run(client.models.retrieve("m"))
        shown += [everything(caught.value), pickle.dumps(caught.value).decode("latin-1")]
    mode.run(client.close())
    captured = capfd.readouterr()
    shown += [caplog.text, captured.out, captured.err]
    for text in shown:
        # The test's own frames contain the key on purpose; the library's must not.
        assert KEY not in text.replace(f"KEY = '{KEY}'", "")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_client_survives_a_fork(stub, transport):
    stub.handle = lambda _: answer(MODEL)
    client = Client(KEY, base_url=stub.url, transport=transport)
    client.models.retrieve("m")
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, client.models.retrieve("m").id.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 10) == b"m"
    os.close(reading)
    assert client.models.retrieve("m").id == "m"
    assert stub.connections == 2
    client.close()


def test_one_client_on_one_loop_after_another(stub, transport):
    stub.handle = lambda _: answer(MODEL)
    client = AsyncClient(KEY, base_url=stub.url, transport=transport)

    async def ask() -> str:
        found = (await client.models.retrieve("m")).id
        await client.close()
        return found

    assert [asyncio.run(ask()) for _ in range(3)] == ["m"] * 3


def test_one_client_on_two_loops_at_a_time(stub, transport):
    stub.handle = lambda _: answer(MODEL)
    client = AsyncClient(KEY, base_url=stub.url, transport=transport)
    found: list[str] = []

    async def ask() -> None:
        for _ in range(5):
            found.append((await client.models.retrieve("m")).id)
        await client.close()

    threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["m"] * 15


def test_a_cancelled_task_frees_its_connection(stub, transport):
    stub.handle = lambda request: raw(0.5) if "slow" in request.path else answer(MODEL)

    async def main() -> None:
        async with AsyncClient(
            KEY, base_url=stub.url, transport=transport, max_connections=1
        ) as client:
            task = asyncio.create_task(client.models.retrieve("slow"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.models.retrieve("m", timeout=Timeout(2))).id == "m"
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    gc.collect()


def test_threads_share_a_client(stub):
    stub.handle = lambda _: answer(MODEL)
    found: list[str] = []
    with Client(KEY, base_url=stub.url, max_connections=4) as client:
        threads = [
            threading.Thread(
                target=lambda: found.extend(client.models.retrieve("m").id for _ in range(10))
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["m"] * 80
    assert stub.connections <= 4


def test_a_client_of_the_users_own(mode):
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ConnectError("down")
        return httpx.Response(200, json=MODEL)

    kind = httpx.AsyncClient if mode.runner else httpx.Client
    own = kind(transport=httpx.MockTransport(handle))
    client = mode.client("http://example.test/v1", http_client=own)
    assert mode.run(client.models.retrieve("m")).id == "m"
    assert len(seen) == 2
    with pytest.raises(tunesmith.ConfigurationError, match="http_client"):
        mode.run(mode.client("http://example.test/v1", http_client=object()).models.retrieve("m"))


def test_a_proxy_from_the_environment_and_never_for_loopback(mode, stub, monkeypatch):
    stub.handle = lambda _: answer(MODEL)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{stub.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    mode.run(mode.client("http://models.example/v1").models.retrieve("m"))
    assert stub.requests[0].path == "http://models.example/v1/models/m"
    mode.run(mode.client(stub.url).models.retrieve("m"))
    assert stub.requests[1].path == "/v1/models/m"


def test_azure(mode, stub, completion):
    stub.handle = lambda request: answer(completion if "completions" in request.path else MODEL)
    kind: Any = AsyncAzureClient if mode.runner else AzureClient
    root = stub.url.removesuffix("/v1")
    client = kind(azure_endpoint=root, api_version="2024-10-21", api_key="azure-key")
    mode.clients.append(client)
    mode.run(client.completions.create(model="gpt 35", prompt="p"))
    mode.run(client.models.retrieve("m"))
    paths = [request.path for request in stub.requests]
    assert paths == [
        "/openai/deployments/gpt%2035/completions?api-version=2024-10-21",
        "/openai/models/m?api-version=2024-10-21",
    ]
    assert stub.requests[0].headers["api-key"] == "azure-key"
    assert "authorization" not in stub.requests[0].headers
    with_token = kind(
        azure_endpoint=root, azure_deployment="d", api_version="v", azure_ad_token="t"
    )
    mode.clients.append(with_token)
    mode.run(with_token.completions.create(model="m", prompt="p"))
    assert stub.requests[-1].path == "/openai/deployments/d/completions?api-version=v"
    assert stub.requests[-1].headers["authorization"] == "Bearer t"
    with pytest.raises(tunesmith.ConfigurationError, match="API version"):
        kind(azure_endpoint=root, api_key="k")


def test_bulk_requests(mode, stub, completion, tmp_path):
    refused = set()

    def handle(request):
        prompt = request.json["prompt"]
        if prompt == "bad":
            return answer({"error": {"message": "No."}}, 400)
        if prompt in {"p3", "p7"} and prompt not in refused:
            refused.add(prompt)
            return answer({}, 429)
        return answer({**completion, "choices": [{"index": 0, "text": prompt.upper()}]})

    stub.handle = handle
    journal = tmp_path / "journal.jsonl"
    client = mode.client(stub.url, max_retries=0, retry=tunesmith.RetryPolicy(0))
    prompts = [*(f"p{n}" for n in range(30)), "bad", {"prompt": "last", "max_tokens": 2}]
    progress: list[Any] = []
    results = mode.items(client.completions.map(
        prompts, model="m", concurrency=6, journal=journal, on_progress=lambda *seen: progress.append(seen)
    ))  # fmt: skip
    assert [one.index for one in results] == list(range(32))
    assert [one.unwrap().choices[0].text for one in results[:30]] == [f"P{n}" for n in range(30)]
    assert isinstance(results[30].error, tunesmith.BadRequestError)
    assert results[31].request == {"model": "m", "prompt": "last", "max_tokens": 2}
    assert progress[-1] == (32, 1)
    sent = len(stub.requests)
    with journal.open("ab") as torn:
        torn.write(b'{"index": 99, "req')
    again = mode.items(client.completions.map(prompts, model="m", journal=journal, ordered=False))
    assert len(stub.requests) == sent + 1
    assert sorted(one.index for one in again) == list(range(32))
    assert all(
        json.loads(line)
        for line in journal.read_bytes().splitlines()
        if b"torn" not in line and line.endswith(b"}")
    )


def test_bulk_chat_takes_endless_requests(mode, stub):
    reply = {"id": "c", "created": 1, "model": "m", "object": "chat.completion", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]}  # fmt: skip
    stub.handle = lambda _: answer(reply)
    client = mode.client(stub.url)

    def conversations():
        while True:
            yield [{"role": "user", "content": "hello"}]

    async def three() -> list[Any]:
        found = []
        results = client.chat.completions.map(conversations(), model="m", concurrency=2)
        async for one in results:
            found.append(one)
            if len(found) == 3:
                await results.aclose()
                return found
        return found

    if mode.runner:
        found = mode.runner.run(three())
    else:
        results = client.chat.completions.map(conversations(), model="m", concurrency=2)
        found = [next(results) for _ in range(3)]
        results.close()
    assert [one.index for one in found] == [0, 1, 2]
    assert len(stub.requests) < 60
