"""Flows driven by hand: what a call decides, without a transport."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

import tunesmith
from tunesmith.core.exchange import exchange
from tunesmith.core.flow import Call, PollPause, Send, Sleep
from tunesmith.core.hooks import Hooks
from tunesmith.core.options import Timeout, omit
from tunesmith.core.redact import Secret
from tunesmith.core.request import RequestSpec, fill_path, json_body
from tunesmith.core.response import Response
from tunesmith.core.retry import RetryPolicy, server_delay
from tunesmith.core.settings import Settings
from tunesmith.errors import APIConnectionError, RequestInfo
from tunesmith.resources.waiting import wait_for_end

POLICY = RetryPolicy(max_retries=3, initial_delay=1.0, max_delay=3.0, jitter=0.0)


def settings(**changes: Any) -> Settings:
    return Settings(
        **{"base_url": "http://h/v1", "credential": Secret("k"), "retry": POLICY, **changes}
    )


def response(status: int, body: Any = None, **headers: str) -> Response:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Response(status, fields, json.dumps(body or {}).encode(), RequestInfo("GET", "http://h"))


def feed(flow: Any, *outcomes: Any) -> tuple[list[Any], Any]:
    """Run a flow on the outcomes of its attempts; return its effects and how it ended."""
    effects: list[Any] = []
    waiting = list(outcomes)
    effect = next(flow)
    while True:
        effects.append(effect)
        outcome = waiting.pop(0) if isinstance(effect, Send) else None
        try:
            if isinstance(outcome, Exception):
                effect = flow.throw(outcome)
            elif isinstance(effect, Call):
                effect = flow.send(effect.function(*effect.arguments))
            else:
                effect = flow.send(outcome)
        except StopIteration as stop:
            return effects, stop.value
        except tunesmith.TunesmithError as error:
            return effects, error


def kinds(effects: list[Any]) -> list[Any]:
    return [
        effect.seconds if isinstance(effect, Sleep) else type(effect).__name__ for effect in effects
    ]


def test_a_call_that_succeeds_is_one_attempt():
    effects, value = feed(exchange(settings(), RequestSpec("GET", "/a")), response(200))
    assert kinds(effects) == ["Send"]
    assert value.status == 200
    assert effects[0].request.headers["authorization"] == "Bearer k"
    assert "idempotency-key" not in effects[0].request.headers


def test_delays_double_up_to_the_limit():
    outcomes = [response(500)] * 4
    effects, value = feed(exchange(settings(), RequestSpec("GET", "/a")), *outcomes)
    assert kinds(effects) == ["Send", 1.0, "Send", 2.0, "Send", 3.0, "Send"]
    assert isinstance(value, tunesmith.InternalServerError)


def test_a_server_sets_the_delay():
    outcomes = [response(429, retry_after="7"), response(503, retry_after_ms="30"), response(200)]
    effects, value = feed(exchange(settings(), RequestSpec("GET", "/a")), *outcomes)
    assert kinds(effects) == ["Send", 7.0, "Send", 0.03, "Send"]
    assert value.attempts == 3


def test_one_key_for_all_attempts_of_a_call():
    spec = RequestSpec("POST", "/a", json={"x": 1, "y": omit, "z": None})
    effects, _ = feed(exchange(settings(), spec), APIConnectionError(), response(200))
    first, second = (effect.request for effect in effects if isinstance(effect, Send))
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == b'{"x":1,"z":null}'


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_errors_of_the_request_are_not_retried(status):
    effects, value = feed(exchange(settings(), RequestSpec("GET", "/a")), response(status))
    assert kinds(effects) == ["Send"]
    assert value.status_code == status


def test_a_connection_error_that_is_not_retryable_is_not_retried():
    effects, _ = feed(
        exchange(settings(), RequestSpec("GET", "/a")), APIConnectionError(retryable=False)
    )
    assert kinds(effects) == ["Send"]


def test_a_policy_can_override_the_rules():
    policy = RetryPolicy(1, 0.0, should_retry=lambda outcome: getattr(outcome, "status", 0) == 404)
    effects, _ = feed(
        exchange(settings(retry=policy), RequestSpec("GET", "/a")), response(404), response(404)
    )
    assert kinds(effects) == ["Send", 0.0, "Send"]


def test_a_key_function_is_called_for_each_request():
    keys = iter(["one", "two"])
    own = settings(credential=lambda: next(keys))
    for key in ("one", "two"):
        effects, _ = feed(exchange(own, RequestSpec("GET", "/a")), response(200))
        assert effects[1].request.headers["authorization"] == f"Bearer {key}"
    _, failure = feed(exchange(settings(credential=lambda: ""), RequestSpec("GET", "/a")))
    assert isinstance(failure, tunesmith.ConfigurationError)


def test_hooks_see_each_step_without_secrets():
    seen: list[Any] = []
    hooks = Hooks(before=seen.append, after=seen.append, retry=seen.append)
    feed(exchange(settings(hooks=hooks), RequestSpec("GET", "/a")), response(500), response(200))
    assert [type(one).__name__ for one in seen] == [
        "RequestRecord", "ResponseRecord", "RetryRecord", "RequestRecord", "ResponseRecord",
    ]  # fmt: skip
    assert "Bearer" not in repr(seen)
    assert [one.attempt for one in seen] == [1, 1, 1, 2, 2]


def test_redirects_keep_or_drop_body_and_credentials():
    spec = RequestSpec("POST", "/a", json={"x": 1})
    there = response(303, location="https://h/v1/b")
    effects, _ = feed(exchange(settings(), spec), there, response(200))
    second = effects[1].request
    assert (second.method, second.url, second.body) == ("GET", "https://h/v1/b", None)
    assert "authorization" not in second.headers
    there = response(307, location="/v1/b")
    effects, _ = feed(exchange(settings(), spec), there, response(200))
    second = effects[1].request
    assert (second.method, second.body) == ("POST", b'{"x":1}')
    assert second.headers["authorization"] == "Bearer k"
    down = settings(base_url="https://h/v1")
    effects, failure = feed(exchange(down, spec), response(302, location="http://h/v1/b"))
    assert isinstance(failure, tunesmith.TooManyRedirectsError)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_the_delay_that_a_server_requests(headers, seconds):
    assert server_delay(headers, now=40.0) == seconds


@pytest.mark.parametrize("count", [-1, 1.5, True, None, "2"])
def test_max_retries_must_be_a_count(count):
    with pytest.raises(tunesmith.ConfigurationError, match="max_retries"):
        RetryPolicy(max_retries=count)


def test_paths_are_quoted_as_one_segment():
    assert fill_path("/models/{m}", m="ft:a:b::c") == "/models/ft:a:b::c"
    assert fill_path("/models/{m}", m="a/../b?c#d%") == "/models/a%2F..%2Fb%3Fc%23d%25"
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError, match="`m`"):
            fill_path("/models/{m}", m=bad)


def test_bodies():
    assert json_body(None) is None
    assert json_body({"a": "ä"}, {"b": 1}) == '{"a":"ä","b":1}'.encode()
    assert json_body({"a": "\ud800"}) == b'{"a":"\\ud800"}'
    assert json_body({"a": (x for x in [1, 2])}) == b'{"a":[1,2]}'
    with pytest.raises(ValueError, match="JSON"):
        json_body({"a": float("nan")})
    with pytest.raises(TypeError, match="cannot be sent"):
        json_body({"a": object()})


def test_time_limits():
    assert Timeout.of(3) == Timeout(3)
    assert Timeout(3, connect=1).phases() == {"connect": 1, "read": 3, "write": 3, "pool": 3}
    assert Timeout(None, read=5).clipped(2).phases() == dict.fromkeys(
        ["connect", "read", "write", "pool"], 2
    )


@pytest.mark.parametrize("interval", [0, 0.001, 0.2, 1.0, 2.0, 60.0])
def test_polls_come_soon_at_first_and_never_later_than_the_interval(interval):
    pause = PollPause()
    pauses = [pause.next(interval) for _ in range(40)]
    assert pauses == sorted(pauses)
    assert pauses[0] == min(interval, 0.2)
    assert pauses[-1] == max(pauses) == interval


def test_a_wait_polls_sooner_at_first():
    job = SimpleNamespace(id="ftjob-1", status="running", is_terminal=False)

    def retrieve():
        return job
        yield

    def no_events():
        return []
        yield

    waiting = wait_for_end(retrieve, no_events, print, timeout=None, poll=2.0)
    pauses = [next(waiting).seconds for _ in range(8)]
    assert pauses[0] < pauses[1] < 1
    assert pauses[-1] == 2.0
