"""What a user sees of a failed call: one exception, and at most five frames of this package."""

from __future__ import annotations

import socket
import traceback
from typing import Any

import httpx
import pytest

import tunesmith
from http_stub import answer
from tunesmith import APIConnectionError, Hooks

pytestmark = pytest.mark.every_transport
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def refusing() -> Any:
    """Return the URL of a port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


def own_frames(error: BaseException) -> list[str]:
    return [
        f"{frame.f_globals['__name__']}:{frame.f_code.co_name}"
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].partition(".")[0] == "tunesmith"
    ]


def assert_short(error: BaseException) -> None:
    assert len(own_frames(error)) <= 5, own_frames(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    text = "".join(traceback.format_exception(error))
    assert text.count(str(error)) == 1
    assert "direct cause" not in text
    assert "During handling" not in text


OPERATIONS = {
    "retrieve": lambda client: client.models.retrieve("m"),
    "list": lambda client: client.models.list(),
    "any path": lambda client: client.get("/models"),
    "upload": lambda client: client.files.create(file=b"{}", purpose="fine-tune"),
    "legacy job": lambda client: client.fine_tunes.create(training_file="file-1"),
    "job": lambda client: client.fine_tuning.jobs.create(model="m", training_file="file-1"),
    "chat": lambda client: client.chat.completions.create(model="m", messages=MESSAGES),
    "chat stream": lambda client: client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    ),
    "raw": lambda client: client.models.with_raw_response.retrieve("m"),
    "raw list": lambda client: client.models.with_raw_response.list(),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_refused_connection_is_one_short_exception(mode, refusing, name, retries):
    policy = tunesmith.RetryPolicy(max_retries=retries, initial_delay=0.001)
    client = mode.client(refusing, retry=policy)
    with pytest.raises(APIConnectionError, match="No engine runs at") as caught:
        mode.run(OPERATIONS[name](client))
    assert_short(caught.value)


def test_iterations_and_context_managers_raise_short_exceptions(mode, refusing):
    client = mode.client(refusing, max_retries=0, retry=None)
    for start in (
        lambda: mode.items(client.models.list()),
        lambda: enter(mode, client.models.with_streaming_response.retrieve("m")),
        lambda: enter(mode, client.chat.completions.stream(model="m", messages=MESSAGES)),
    ):
        with pytest.raises(APIConnectionError) as caught:
            start()
        assert_short(caught.value)


def enter(mode: Any, manager: Any) -> None:
    if mode.runner is None:
        with manager:
            pass
        return

    async def entered() -> None:
        async with manager:
            pass

    mode.runner.run(entered())


def test_an_error_status_is_a_short_exception(mode, stub):
    stub.then(answer({"error": {"message": "no"}}, 404))
    with pytest.raises(tunesmith.NotFoundError) as caught:
        mode.run(mode.client(stub.url).models.retrieve("m"))
    assert_short(caught.value)


def test_an_error_raised_while_another_is_handled_keeps_that_context(mode, refusing):
    client = mode.client(refusing, max_retries=0, retry=None)

    def call() -> None:
        try:
            {}["k"]
        except KeyError:
            client.models.retrieve("m")

    if mode.runner is not None:
        pytest.skip("The event loop's context is the test's own.")
    with pytest.raises(APIConnectionError) as caught:
        call()
    assert isinstance(caught.value.__context__, KeyError)


def test_an_error_from_a_hook_keeps_the_frames_of_the_hook(mode, stub):
    def failing_hook(record: Any) -> None:
        raise tunesmith.APIError("from the hook")

    client = mode.client(stub.url, hooks=Hooks(before=failing_hook))
    with pytest.raises(tunesmith.APIError, match="from the hook") as caught:
        mode.run(client.models.retrieve("m"))
    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert "failing_hook" in names


def test_a_users_own_httpx_client_raises_short_exceptions(mode, refusing):
    kind = httpx.AsyncClient if mode.runner else httpx.Client
    own = kind(trust_env=False)
    client = mode.client(refusing, http_client=own, max_retries=0, retry=None)
    with pytest.raises(APIConnectionError) as caught:
        mode.run(client.models.retrieve("m"))
    assert_short(caught.value)
    mode.run(own.aclose() if mode.runner else own.close())
