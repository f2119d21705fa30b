"""`/v1/chat/completions` as any client of the hosted service sends and reads it."""

from __future__ import annotations

import pytest

PATH = "/chat/completions"
RED = "ada:ft-local:red-2026-11-21-10-00-00"
MESSAGES = [
    {"role": "system", "content": "You are a poet."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Write about "}, {"type": "text", "text": "the sea."}],
    },
]


def test_an_answer_has_the_public_shape(engine):
    answer = engine.post(PATH, model=RED, messages=MESSAGES, max_tokens=9, temperature=0).json()
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["message"]["refusal"] is None
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 9


def test_the_template_of_the_base_writes_the_prompt(engine):
    text = (
        "<|im_start|>system\nYou are a poet.<|im_end|>\n"
        "<|im_start|>user\nWrite about the sea.<|im_end|>\n<|im_start|>assistant\n"
    )
    fields = {"model": "gpt-3.5-turbo", "max_tokens": 9, "temperature": 0}
    chat = engine.post(PATH, messages=MESSAGES, **fields).json()
    completion = engine.post("/completions", prompt=text, **fields).json()
    assert chat["choices"][0]["message"]["content"] == completion["choices"][0]["text"]
    assert chat["usage"] == completion["usage"]


def test_log_probabilities(engine):
    fields = {"model": "ada", "messages": MESSAGES, "max_tokens": 5, "temperature": 0}
    plain = engine.post(PATH, **fields, logprobs=True).json()["choices"][0]["logprobs"]
    assert plain["refusal"] is None
    assert [token["top_logprobs"] for token in plain["content"]] == [[]] * 5
    body = engine.post(PATH, **fields, logprobs=True, top_logprobs=20).json()
    for token in body["choices"][0]["logprobs"]["content"]:
        assert set(token) == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(token["top_logprobs"]) == 20
        best = token["top_logprobs"][0]
        assert (best["token"], best["logprob"]) == (token["token"], token["logprob"])
        if not token["token"].startswith("bytes:"):
            assert bytes(token["bytes"]).decode() == token["token"]


def test_a_stream_says_the_same_as_a_whole_answer(engine):
    fields = {"model": RED, "messages": MESSAGES, "max_tokens": 9, "seed": 2, "n": 2}
    fields |= {"logprobs": True, "top_logprobs": 1}
    whole = engine.post(PATH, **fields).json()
    chunks = engine.stream(PATH, **fields, stream_options={"include_usage": True})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert mine[-1]["delta"] == {}
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        assert all(c["finish_reason"] is None for c in mine[:-1])
        text = "".join(c["delta"]["content"] for c in mine[1:-1])
        assert text == choice["message"]["content"]
        tokens = [t["token"] for c in mine if c["logprobs"] for t in c["logprobs"]["content"]]
        assert tokens == [t["token"] for t in choice["logprobs"]["content"]]


def test_stop_and_both_names_of_the_limit(engine):
    fields = {"model": "ada", "messages": MESSAGES, "seed": 3}
    full = engine.post(PATH, **fields, max_completion_tokens=30).json()["choices"][0]
    text = full["message"]["content"]
    stopped = engine.post(PATH, **fields, max_tokens=30, stop=text[4:7]).json()["choices"][0]
    assert stopped["message"]["content"] == text[: text.index(text[4:7])]
    assert stopped["finish_reason"] == "stop"


def test_fields_without_effect_are_taken(engine):
    harmless = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "audio": None,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "functions": None,
    }
    response = engine.post(PATH, model="ada", messages=MESSAGES, max_tokens=1, **harmless)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
        ),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"store": True}, "store"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 4000}, "max_tokens"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_what_is_refused_is_named(engine, body, param):
    response = engine.post(PATH, **{"model": "ada", "messages": MESSAGES, **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_an_unknown_model(engine):
    response = engine.post(PATH, model="nonesuch", messages=MESSAGES)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
