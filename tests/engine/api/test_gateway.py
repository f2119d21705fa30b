"""The switch: an old name leads to another service, to a model here, or from one to the other.

The other service is a stub on a socket of its own, the engine one with real requests; both count.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.http_stub import HANG_UP, RESET, Answer, Received, Stub, answer, raw, sse

from tunesmith import APIError, BadRequestError, Client, InternalServerError
from tunesmith.engine.routing.side_choice import side_of
from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.engine.store.records import ModelRouteRow
from tunesmith.testing import SimulatedEngine, simulate

KEY = "sk-sentinel-6f1c2b9e0d7a4e55"
MESSAGES = [{"role": "user", "content": "I love it"}]


def old_answer(text: str = "positive", **fields: Any) -> Answer:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    head = {"id": "chatcmpl-old", "object": "chat.completion", "created": 1, "model": "old"}
    return answer({**head, "choices": [choice], "usage": usage}, x_request_id="req_old", **fields)


@dataclasses.dataclass
class Switch:
    engine: SimulatedEngine
    client: Client
    old: Stub
    asked: list[str]
    name: str
    http: httpx.Client

    @property
    def body(self) -> dict[str, Any]:
        return {"model": self.name, "messages": MESSAGES, "seed": 1}

    def set(self, **fields: Any) -> None:
        self.client.model_routes.set(self.name, **fields)

    def send(self, **fields: Any) -> httpx.Response:
        return self.http.post("chat/completions", json={**self.body, **fields})

    def decisions(self, count: int = 1) -> list[Any]:
        """Return the newest decisions, once there are so many."""
        deadline = time.monotonic() + 20
        while True:
            found = list(self.client.model_routes.list_decisions(self.name, limit=100))
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


def write_upstreams(home: Path, url: str, **fields: str) -> None:
    lines = {"url": url, "api_key": KEY, **fields}
    path = home / "upstreams.toml"
    path.write_text(
        "[old]\n" + "".join(f'{name} = "{value}"\n' for name, value in lines.items()),
        encoding="utf-8",
    )
    path.chmod(0o600)


@pytest.fixture(scope="module")
def engine() -> Iterator[SimulatedEngine]:
    with simulate() as running:
        yield running


@pytest.fixture(scope="module")
def http(engine: SimulatedEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.base_url, timeout=30) as client:
        yield client


@pytest.fixture
def switch(engine: SimulatedEngine, http: httpx.Client) -> Iterator[Switch]:
    old, asked = Stub(), []
    name = f"ft:gpt-4o-mini-2024-07-18:acme::{uuid.uuid4().hex[:8]}"
    old.default = old_answer()

    def new_answer(prompt: Any) -> str:
        asked.append(str(prompt))
        return "positive"

    engine.answer = new_answer
    write_upstreams(engine.home.root, old.url)
    with engine.client() as client:
        client.model_routes.set(
            name, target="ada", upstream="old", stage="upstream", fallback=True, percentage=0
        )
        yield Switch(engine, client, old, asked, name, http)
        client.model_routes.delete(name)
    old.close()


def test_the_old_service_gets_the_body_unchanged_and_its_own_key(switch: Switch):
    body = b'{"seed":1,  "model" : "%s","messages":[{"role":"user","content":"\\u00fc"}],"new":1}'
    body %= switch.name.encode()
    got = switch.http.post(
        "chat/completions",
        content=body,
        headers={"content-type": "application/json", "authorization": "Bearer mine"},
    )
    sent = switch.old.requests[0]

    assert got.json()["choices"][0]["message"]["content"] == "positive"
    assert (sent.path, sent.body) == ("/v1/chat/completions", body)
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert "mine" not in str(sent.headers)
    assert got.headers["x-tunesmith-side"] == "upstream"
    assert got.headers["x-upstream-request-id"] == "req_old"


def test_a_stream_passes_through_byte_by_byte(switch: Switch):
    pause = threading.Event()
    first, last = b'data: {"a":  1}\n\n', b": a comment\n\ndata: [DONE]\n\n"
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%b\r\n" % (len(one), one) for one in (first, last)]
    switch.old.then(raw(head, chunks[0], pause, chunks[1], b"0\r\n\r\n"))
    with switch.http.stream(
        "POST", "chat/completions", json={**switch.body, "stream": True}
    ) as got:
        pieces = got.iter_raw()
        assert next(pieces) == first  # while the old service has not written the rest
        pause.set()
        assert b"".join(pieces) == last


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_stages_go_forth_and_back_at_once(switch: Switch, path: str):
    body = switch.body if path.startswith("chat") else {"model": switch.name, "prompt": "I love it"}

    def side() -> str:
        got = switch.http.post(path, json=body)
        assert got.status_code == 200, got.text
        assert got.json()["model"] in {switch.name, "old"}  # the stub's answers are what they are
        return got.headers["x-tunesmith-side"]

    for stage, expected in (
        ("upstream", "upstream"),
        ("local", "local"),
        ("upstream", "upstream"),
        ("mirror", "upstream"),
        ("local", "local"),
    ):
        switch.set(stage=stage)
        assert side() == expected


def test_a_user_keeps_to_the_side_that_the_hash_says(switch: Switch):
    switch.set(stage="percentage", percentage=50)
    route = ModelRouteRow("local", switch.name, 0, 0, "ada", "old", "percentage", 50.0)
    for number in range(20):
        fields = {"user": f"user {number}", "seed": number}
        assert switch.send(**fields).headers["x-tunesmith-side"] == side_of(route, fields)


def test_a_conversation_keeps_to_a_side(switch: Switch):
    switch.set(stage="percentage", percentage=50, sticky_by="conversation")
    for number in range(5):
        first = [{"role": "user", "content": f"question {number}"}]
        more = [*first, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
        sides = {
            switch.send(messages=messages).headers["x-tunesmith-side"] for messages in (first, more)
        }
        assert len(sides) == 1


def test_a_mirrored_request_is_compared_beside(switch: Switch):
    switch.set(stage="mirror")
    switch.engine.answer = lambda _: "Positive."
    got = switch.send()
    one = switch.decisions()[0]

    assert got.json()["choices"][0]["message"]["content"] == "positive"
    assert (one.model, one.target, one.stage, one.side) == (
        switch.name,
        "ada",
        "mirror",
        "upstream",
    )
    assert one.mirror == "compared"
    assert one.agreement.to_dict() == {
        "text": False,
        "normalized": True,
        "calls": None,
        "label": True,
    }
    assert (one.upstream.status, one.local.status) == (200, 200)
    assert one.upstream.usage["total_tokens"] == 10
    assert one.local.usage["completion_tokens"] == 1
    assert one.upstream.finish_reasons == one.local.finish_reasons == ["stop"]
    assert one.upstream.first_byte_seconds <= one.upstream.seconds
    assert one.upstream.content is one.request is None
    assert len(switch.old.requests) == 1


def test_a_mirrored_stream_is_compared_too(switch: Switch):
    switch.set(stage="mirror")
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": switch.name}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        for piece in ("posi", "tive")
    ]
    switch.old.then(sse(*chunks))
    with switch.client.chat.completions.create(**switch.body, stream=True) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    one = switch.decisions()[0]

    assert text == "positive"
    assert (one.mirror, one.agreement.text, one.stream) == ("compared", True, True)


def test_a_mirror_compares_calls_by_their_arguments(switch: Switch):
    call = {"name": "weather", "arguments": '{"day": 1, "city": "Rome"}'}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    switch.old.default = answer({"id": "a", "model": switch.name, "choices": [choice]})
    new = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "day": 1}}\n</tool_call>'
    switch.engine.answer = lambda _: new
    switch.set(stage="mirror")
    function = {"name": "weather", "parameters": {"type": "object"}}
    switch.send(tools=[{"type": "function", "function": function}])
    one = switch.decisions()[0]

    assert (one.mirror, one.agreement.calls, one.agreement.label) == ("compared", True, None)


def test_what_the_new_model_refuses_is_seen_in_the_mirror(switch: Switch):
    switch.set(stage="mirror")
    got = switch.send(verbosity="low")
    one = switch.decisions()[0]

    assert got.status_code == 200
    assert (one.mirror, one.local.status) == ("failed", 400)
    assert "verbosity" in one.local.error


def test_contents_are_kept_only_where_the_route_says_so(switch: Switch):
    switch.set(stage="mirror", keep_contents=True)
    switch.send()
    one = switch.decisions()[0]

    assert json.loads(one.request) == switch.body
    assert json.loads(one.upstream.content)["id"] == "chatcmpl-old"
    assert "positive" in one.local.content


DOWN: dict[str, Callable[[Switch], None]] = {
    "stopped": lambda switch: switch.old.close(),
    "hangs up": lambda switch: setattr(switch.old, "default", raw(HANG_UP)),
    "resets": lambda switch: setattr(switch.old, "default", raw(RESET)),
    "status 500": lambda switch: setattr(switch.old, "default", answer({}, 500)),
    "status 503": lambda switch: setattr(switch.old, "default", answer({}, 503)),
    "slow": lambda switch: setattr(switch.old, "default", raw(3.0, HANG_UP)),
    "breaks off": lambda switch: setattr(
        switch.old, "default", raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", HANG_UP)
    ),
    "refuses the key": lambda switch: setattr(switch.old, "default", answer({}, 401)),
    "shut the model": lambda switch: setattr(
        switch.old, "default", answer({"error": {"code": "model_not_found"}}, 404)
    ),
}


@pytest.mark.parametrize("how", DOWN)
@pytest.mark.parametrize("stage", ["upstream", "mirror"])
def test_the_old_service_is_down(switch: Switch, how: str, stage: str):
    DOWN[how](switch)
    # The new model has to answer in this time, too, on whatever machine.
    switch.set(stage=stage, timeout_seconds=1.5 if how == "slow" else 20)
    got = switch.send()
    switch.set(fallback=False)
    alone = switch.send()
    found = switch.decisions(2)

    assert got.status_code == 200, got.text
    assert (got.headers["x-tunesmith-side"], got.json()["model"]) == ("local", switch.name)
    assert alone.status_code >= 400
    assert {(one.side, one.fallback, one.mirror) for one in found} == {
        ("local", True, None),
        ("none", False, None),
    }
    assert switch.asked == ["I love it"]


def broken(_: Any) -> str:
    raise GenerationError("out of order", status=503)


def slow(_: Any) -> str:
    time.sleep(2.5)
    return "late"


@pytest.mark.parametrize("how", [broken, lambda _: 1 / 0])
def test_the_new_model_is_down(switch: Switch, how: Any):
    switch.engine.answer = how
    switch.set(stage="local", timeout_seconds=1)
    got = switch.send()
    switch.set(fallback=False)
    alone = switch.send()
    found = switch.decisions(2)

    assert (got.status_code, got.headers["x-tunesmith-side"]) == (200, "upstream")
    assert alone.status_code in {500, 503}
    assert [one.side for one in found] == ["none", "upstream"]
    assert len(switch.old.requests) == 1


def test_what_the_new_model_cannot_do_goes_to_the_old_service(switch: Switch):
    switch.set(stage="local")
    got = switch.send(verbosity="low")
    wrong = switch.send(temperature="hot")

    assert (got.status_code, got.headers["x-tunesmith-side"]) == (200, "upstream")
    assert wrong.status_code == 400
    assert len(switch.old.requests) == 1


def test_both_are_down(switch: Switch):
    switch.engine.answer = broken
    switch.old.default = answer({"error": {"message": "old is down", "code": "x"}}, 503)
    for stage, words in (("upstream", "old is down"), ("local", "out of order")):
        switch.set(stage=stage)
        got = switch.send()
        assert got.status_code == 503
        assert words in got.text  # what the side says whose turn it was
    assert [one.side for one in switch.decisions(2)] == ["none", "none"]


def test_an_error_of_the_caller_is_passed_on_and_not_repeated(switch: Switch):
    switch.old.default = answer({"error": {"message": "too long", "code": "x"}}, 400)
    with pytest.raises(BadRequestError, match="too long"):
        switch.client.chat.completions.create(**switch.body)
    switch.old.default = answer({"error": {"message": "slow down"}}, 429, retry_after="7")
    limited = switch.send()

    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert switch.asked == []


def test_nothing_is_repeated_after_the_first_byte(switch: Switch):
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": switch.name}
    chunk = {**head, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    switch.old.default = sse(chunk, done=False, tail=[HANG_UP])
    pieces = []
    with (
        pytest.raises(APIError, match="broke off"),
        switch.client.chat.completions.create(**switch.body, stream=True) as stream,
    ):
        pieces += [chunk.choices[0].delta.content for chunk in stream]
    one = switch.decisions()[0]

    assert switch.asked == []
    assert (one.side, one.upstream.error) == ("upstream", "its stream broke off")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["upstream", "mirror", "percentage", "local"])
def test_no_answer_is_lost_or_doubled(switch: Switch, stage: str):
    count = 100
    failing = {"n": 0}

    def one_in_five_fails(request: Received) -> Answer:
        number = int(request.json["messages"][0]["content"])
        failing["n"] += number % 5 == 0
        return answer({}, 503) if number % 5 == 0 else old_answer(f"answer {number}")

    switch.old.handle = one_in_five_fails
    switch.engine.answer = lambda prompt: f"answer {prompt}"
    switch.set(stage=stage, percentage=50)

    def ask(number: int) -> tuple[str, str]:
        got = switch.send(messages=[{"role": "user", "content": str(number)}], user=f"u{number}")
        assert got.status_code == 200, got.text
        return got.json()["choices"][0]["message"]["content"], got.headers["x-tunesmith-side"]

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(count)))
    found = switch.decisions()
    asked = collections.Counter(one.json["messages"][0]["content"] for one in switch.old.requests)
    all_found = list(switch.client.model_routes.curves(switch.name, hours=1))

    assert [text for text, _ in answers] == [f"answer {number}" for number in range(count)]
    assert set(asked.values()) <= {1}
    old_side = sum(side == "upstream" for _, side in answers)
    assert len(asked) == old_side + failing["n"]
    deadline = time.monotonic() + 20
    while sum(point.requests for point in all_found) < count:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        all_found = list(switch.client.model_routes.curves(switch.name, hours=1))
    assert sum(point.requests for point in all_found) == count
    assert sum(point.upstream for point in all_found) == old_side
    assert sum(point.fallbacks for point in all_found) == failing["n"]
    if stage == "mirror":
        compared = sum(point.compared for point in all_found)
        assert compared + sum(point.dropped for point in all_found) == old_side
        assert sum(point.same_text for point in all_found) == compared
    assert found


def test_azure_addresses_lead_to_the_same_route(switch: Switch):
    switch.client.model_routes.set("my-deployment", target="ada")
    root = switch.engine.base_url.removesuffix("/v1")
    chat = {"messages": MESSAGES}
    form = f"{root}/openai/deployments/my-deployment"
    answers = [
        switch.http.post(f"{form}/chat/completions?api-version=2024-10-21", json=chat),
        switch.http.post(f"{form}/completions?api-version=2024-10-21", json={"prompt": "a"}),
        switch.http.post(
            f"{root}/openai/v1/chat/completions", json={**chat, "model": "my-deployment"}
        ),
    ]
    unknown = switch.http.post(f"{root}/openai/deployments/other/chat/completions", json=chat)
    switch.client.model_routes.delete("my-deployment")

    for got in answers:
        assert got.status_code == 200, got.text
        assert got.json()["model"] == "my-deployment"
        assert got.headers["x-tunesmith-model"] == "ada"
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ({}, "/openai/v1/chat/completions"),
        (
            {"api_version": "2024-10-21"},
            "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_azure_is_asked_at_its_addresses(switch: Switch, version: dict[str, str], path: str):
    root = switch.engine.base_url.removesuffix("/v1")
    url = f"http://127.0.0.1:{switch.old.port}"
    write_upstreams(switch.engine.home.root, url, kind="azure", **version)
    switch.client.model_routes.set("my-deployment", upstream="old")
    body = {"messages": MESSAGES}
    got = switch.http.post(f"{root}/openai/deployments/my-deployment/chat/completions", json=body)
    switch.client.model_routes.delete("my-deployment")
    sent = switch.old.requests[0]

    assert got.status_code == 200, got.text
    assert sent.path == path
    assert sent.headers["api-key"] == KEY
    assert "authorization" not in sent.headers
    assert sent.json == (body if version else {**body, "model": "my-deployment"})


def test_a_name_may_lead_to_the_old_service_alone(switch: Switch):
    switch.client.model_routes.set("ft:old:acme::other", upstream="old")
    got = switch.client.chat.completions.create(model="ft:old:acme::other", messages=MESSAGES)
    listed = {model.id for model in switch.client.models.list()}
    with pytest.raises(BadRequestError, match="needs a target"):
        switch.client.model_routes.set("ft:old:acme::other", stage="mirror")
    switch.client.model_routes.delete("ft:old:acme::other")

    assert got.choices[0].message.content == "positive"
    assert "ft:old:acme::other" in listed


def test_a_key_that_others_may_read_is_refused(switch: Switch):
    (switch.engine.home.root / "upstreams.toml").chmod(0o644)
    with pytest.raises(BadRequestError, match="chmod 600"):
        switch.set(upstream="old")


def test_the_key_of_the_old_service_is_nowhere(switch: Switch, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    refusal = answer({"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid"}}, 401)
    shown: list[str] = []
    with switch.engine.client() as client:
        for stage in ("upstream", "mirror", "percentage", "local"):
            client.model_routes.set(switch.name, stage=stage, keep_contents=True, fallback=False)
            for reply in (old_answer(), old_answer(KEY), refusal, answer({}, 500), raw(RESET)):
                switch.old.default = reply
                got = switch.send()
                shown += [got.text, str(got.headers)]
        shown += [str(route.to_dict()) for route in client.model_routes.list()]
        shown += [str(one.to_dict()) for one in switch.decisions(15)]
        shown += [str(client.models.retrieve(switch.name).to_dict())]
        with pytest.raises(BadRequestError) as failure:
            client.model_routes.set(switch.name, upstream="unknown")
        shown.append(str(failure.value))
    root = switch.engine.base_url.removesuffix("/v1")
    pages = ("/openapi.json", "/metrics", "/models")
    shown += [switch.http.get(root + page).text for page in pages]
    kept = b"".join(path.read_bytes() for path in switch.engine.home.root.glob("engine.db*"))

    assert KEY not in "\n".join([*shown, caplog.text])
    assert KEY.encode() not in kept


def test_a_caller_who_leaves_ends_the_request_to_the_old_service(switch: Switch):
    switch.old.default = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", 5.0, b"{}")
    with pytest.raises(httpx.ReadTimeout):
        switch.http.post("chat/completions", json=switch.body, timeout=0.5)
    one = switch.decisions()[0]

    assert one.side == "none"
    assert switch.asked == []


def test_both_are_slow(switch: Switch):
    switch.old.default = raw(2.5, HANG_UP)
    switch.set(stage="upstream", timeout_seconds=0.5, fallback=False)
    began = time.monotonic()
    with pytest.raises(InternalServerError, match=r"did not answer within 0\.5 s"):
        switch.client.with_options(max_retries=0).chat.completions.create(**switch.body)
    assert time.monotonic() - began < 2.4
