"""`/v1/completions` as any client of the hosted service sends and reads it."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest

RED = "ada:ft-local:red-2026-11-21-10-00-00"
PATH = "/completions"


def error_of(response: httpx.Response, status: int = 400) -> dict:
    assert response.status_code == status, response.text
    [(key, error)] = response.json().items()
    assert key == "error"
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_completion_has_the_public_shape(engine):
    response = engine.post(PATH, model=RED, prompt="I love", logprobs=2, temperature=0)
    answer = response.json()
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["model"] == RED
    [choice] = answer["choices"]
    assert set(choice) == {"text", "index", "logprobs", "finish_reason"}
    assert choice["finish_reason"] == "length"
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == 16  # the API's default
    assert {len(values) for values in logprobs.values()} == {16}
    assert logprobs["text_offset"][0] == len("I love")
    for token, logprob, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert top[token] == logprob == max(top.values())
        assert len(top) == 2
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 16, "total_tokens": 18}


def test_rivals_and_the_chosen_token_are_reported(engine):
    body = {"model": "ada", "prompt": "x", "max_tokens": 8, "logprobs": 1, "seed": 4}
    [choice] = engine.post(PATH, **body).json()["choices"]
    sizes = [len(top) for top in choice["logprobs"]["top_logprobs"]]
    assert 2 in sizes  # a token other than the most likely one was sampled
    without = engine.post(PATH, **{**body, "logprobs": 0}).json()["choices"][0]["logprobs"]
    assert without["tokens"] == choice["logprobs"]["tokens"]
    pairs = zip(without["tokens"], without["token_logprobs"], strict=True)
    assert without["top_logprobs"] == [{token: logprob} for token, logprob in pairs]


def test_prompts_of_every_kind(engine):
    texts = ["I love", "what a great day"]
    first = engine.post(PATH, model="ada", prompt=texts, n=2, max_tokens=3, temperature=0).json()
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2, 3]
    assert first["choices"][0]["text"] == first["choices"][1]["text"]
    echoed = engine.post(
        PATH, model="ada", prompt=texts, echo=True, logprobs=0, max_tokens=0
    ).json()["choices"]
    assert [choice["text"] for choice in echoed] == texts
    assert echoed[0]["logprobs"]["token_logprobs"][0] is None
    ids = engine.post(PATH, model="ada", prompt=[[5, 6, 7], [8]], max_tokens=0, echo=True).json()
    one = engine.post(PATH, model="ada", prompt=[5, 6, 7], max_tokens=0, echo=True).json()
    assert [choice["text"] for choice in ids["choices"]][:1] == [one["choices"][0]["text"]]
    assert ids["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}
    for empty in ({}, {"prompt": None}, {"prompt": ""}, {"prompt": "<|endoftext|>"}):
        answer = engine.post(PATH, model="ada", max_tokens=1, **empty).json()
        assert answer["usage"]["prompt_tokens"] == 1


def test_the_older_address(engine):
    answer = engine.post(f"/engines/{RED.replace(':', '%3A')}/completions", prompt="I").json()
    assert answer["model"] == RED


@pytest.mark.parametrize("extra", [{}, {"echo": True}, {"echo": True, "logprobs": 2, "n": 2}])
def test_a_stream_equals_a_whole_answer(engine, extra):
    body = {"model": RED, "prompt": "I love", "max_tokens": 12, "temperature": 0, **extra}
    whole = engine.post(PATH, **body).json()
    chunks = engine.stream(PATH, **body)
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert all("usage" not in chunk for chunk in chunks)
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + ["length"]
        if "logprobs" in extra:
            streamed = [c["logprobs"] for c in mine if c["logprobs"]]
            for key, values in choice["logprobs"].items():
                joined = [value for logprobs in streamed for value in logprobs[key]]
                if key != "top_logprobs":
                    assert joined == pytest.approx(values) if key == "token_logprobs" else values
    with_usage = engine.stream(PATH, **body, stream_options={"include_usage": True})
    assert with_usage[-1]["choices"] == []
    assert with_usage[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in with_usage[:-1])


def test_a_model_uses_its_own_adapter_only(engine):
    body = {"prompt": "I love this phone ->", "temperature": 0, "max_tokens": 8}
    texts = {
        name: engine.post(PATH, model=name, **body).json()["choices"][0]["text"]
        for name in ("ada", RED, RED.replace("red", "blue"))
    }
    assert len(set(texts.values())) == 3


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"suffix": "end"}, "suffix", "not supported"),
        ({"n": 3, "best_of": 2}, "best_of", "at least n"),
        ({"best_of": 2, "stream": True}, "best_of", "streamed"),
        ({"stop": ["a"] * 65}, "stop", "up to 64"),
        ({"stop": [""]}, "stop", "none empty"),
        ({"prompt": [1, "a"]}, "prompt", "a prompt is"),
        ({"prompt": [99999]}, "prompt", "99999"),
        ({"prompt": []}, "prompt", "a prompt is"),
        ({"prompt": "a\ud800"}, "prompt", "U+D800"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "'a' is no token id"),
        ({"logit_bias": {"5": 101}}, "logit_bias", "-100 to 100"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "99999"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
        ({"max_tokens": "5"}, "max_tokens", "integer"),
        ({"max_tokens": 2048}, "max_tokens", "2048 tokens, but the request needs 2049"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "set stream"),
        ({"top_k": 5}, "top_k", "Unrecognised parameter"),
    ],
)
def test_the_error_names_the_parameter(engine, body, param, says):
    error = error_of(engine.post(PATH, **{"model": "ada", "prompt": "I", **body}))
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


def test_errors_of_model_and_body(engine):
    assert error_of(engine.post(PATH, prompt="I"))["param"] == "model"
    error = error_of(engine.post(PATH, model="nonesuch", prompt="I"), 404)
    assert error["code"] == "model_not_found"
    assert error_of(engine.post(PATH, model="\ud800", prompt="I"))["param"] == "model"
    stream = engine.post(PATH, model="nonesuch", prompt="I", stream=True)
    assert error_of(stream, 404)["code"] == "model_not_found"
    too_long = engine.post(PATH, model="ada", prompt="I", max_tokens=3000, stream=True)
    assert error_of(too_long)["code"] == "context_length_exceeded"


def rows_in_flight(engine) -> int:
    return len(engine.app.state.backend.pending)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_generation(engine, stream):
    body = {"model": "ada", "prompt": "I", "max_tokens": 2000, "stream": stream, "n": 4}
    body["logit_bias"] = {"0": -100, "2": -100}  # never ends by itself
    with httpx.Client(base_url=engine.http.base_url) as leaving:
        if stream:
            with leaving.stream("POST", PATH, json=body) as response:
                assert response.status_code == 200, response.read()
                lines = response.iter_lines()  # kept: its end would close the connection
                assert '"choices"' in next(lines)
                assert rows_in_flight(engine) == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.post(PATH, json=body, timeout=0.2)
    deadline = time.monotonic() + 120
    while rows_in_flight(engine):
        assert time.monotonic() < deadline, "the request is still in flight"
        time.sleep(0.02)


def test_a_client_that_leaves_while_its_stream_waits_gives_up_its_place(engine):
    """The model is busy with others, so the stream has not begun when its client goes."""
    body = {"model": "ada", "prompt": "I", "max_tokens": 1500, "stream": True, "n": 32}
    body["logit_bias"] = {"0": -100, "2": -100}
    with (
        httpx.Client(base_url=engine.http.base_url) as busy,
        busy.stream("POST", PATH, json=body) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        pending = []
        for _ in range(5):
            address = engine.http.base_url
            one = socket.create_connection((address.host, address.port))
            content = json.dumps(body).encode()
            head = f"POST /v1{PATH} HTTP/1.1\r\nhost: {address.host}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
            one.sendall(head.encode() + content)
            pending.append(one)
        deadline = time.monotonic() + 60
        while rows_in_flight(engine) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for one in pending:
            one.close()
        while rows_in_flight(engine) > 1:
            assert time.monotonic() < deadline, "closed sockets are still in flight"
            time.sleep(0.02)
