"""`/v1/chat/completions` as any client of the hosted service sends and reads it."""

from __future__ import annotations

import json

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
    assert chat["usage"].pop("completion_tokens_details") == {"reasoning_tokens": 0}
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


def test_a_stream_equals_a_whole_answer(engine):
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
        ({"store": True, "metadata": {"a": 1}}, "metadata"),
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


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["sea", "land"]}, "days": {"type": "boolean"}},
            "required": ["place", "days"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["baseball", "hockey"]}, "sure": {"type": "boolean"}},
    "required": ["team", "sure"],
    "additionalProperties": False,
}


def test_an_answer_follows_its_schema(engine):
    fields = {
        "model": RED,
        "messages": MESSAGES,
        "n": 3,
        "temperature": 1.5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}},
    }
    for choice in engine.post(PATH, **fields).json()["choices"]:
        answer = json.loads(choice["message"]["content"])
        assert answer["team"] in {"baseball", "hockey"}
        assert isinstance(answer["sure"], bool)
        assert set(answer) == {"team", "sure"}
        assert choice["finish_reason"] == "stop"
    free = engine.post(PATH, **{**fields, "response_format": {"type": "text"}, "max_tokens": 3})
    assert free.status_code == 200
    held = engine.post(
        PATH, **{**fields, "response_format": {"type": "json_object"}, "max_tokens": 3}
    )
    assert held.json()["choices"][0]["message"]["content"].startswith("{")


@pytest.mark.parametrize("model", ["tools", "ada"])  # the template of "ada" knows no tools
def test_a_required_tool_is_called(engine, model):
    fields = {"model": model, "messages": MESSAGES, "tools": [TOOL], "temperature": 1.5}
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        answer = engine.post(PATH, **fields, tool_choice=choice).json()["choices"][0]
        assert answer["finish_reason"] == "tool_calls"
        assert answer["message"]["content"] is None
        call, *others = answer["message"]["tool_calls"]
        assert choice == "required" or not others
        assert call["type"] == "function"
        assert call["id"].startswith("call_")
        assert call["function"]["name"] == "weather"
        arguments = json.loads(call["function"]["arguments"])
        assert arguments["place"] in {"sea", "land"}
        assert isinstance(arguments["days"], bool)

    chunks = engine.stream(PATH, **fields, tool_choice="required")
    deltas = [chunk["choices"][0] for chunk in chunks]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    pieces = [call for delta in deltas for call in delta["delta"].get("tool_calls", ())]
    assert pieces[0]["index"] == 0
    assert pieces[0]["id"].startswith("call_")
    assert pieces[0]["function"]["name"] == "weather"
    first = [piece for piece in pieces if piece["index"] == 0]
    assert len(first) > 1
    assert all(set(piece) == {"index", "function"} for piece in first[1:])
    assert set(json.loads("".join(piece["function"]["arguments"] for piece in first))) == {
        "place",
        "days",
    }
    assert deltas[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("model", ["tools", "ada"])
def test_tools_are_written_into_the_prompt_and_calls_into_the_history(engine, model):
    fields = {"model": model, "max_tokens": 4, "temperature": 0}
    without = engine.post(PATH, messages=MESSAGES, **fields).json()
    none = engine.post(PATH, messages=MESSAGES, tools=[TOOL], tool_choice="none", **fields)
    auto = engine.post(PATH, messages=MESSAGES, tools=[TOOL], **fields).json()
    assert none.json()["usage"] == without["usage"]
    assert auto["usage"]["prompt_tokens"] > without["usage"]["prompt_tokens"]
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"place": "sea", "days": true}'},
    }
    history = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "calm"},
    ]
    assert engine.post(PATH, messages=history, tools=[TOOL], **fields).status_code == 200


def test_a_call_of_one_of_several_tools_whose_schemas_refer_to_parts_of_themselves(engine):
    def tool(name, place):
        parameters = {
            "$defs": {"Place": {"enum": [place]}},
            "type": "object",
            "properties": {"place": {"$ref": "#/$defs/Place"}},
            "required": ["place"],
        }
        return {"type": "function", "function": {"name": name, "parameters": parameters}}

    fields = {"messages": MESSAGES, "tools": [tool("a", "sea"), tool("b", "land")], "n": 8}
    answer = engine.post(PATH, model="ada", tool_choice="required", **fields).json()
    calls = [choice["message"]["tool_calls"][0]["function"] for choice in answer["choices"]]
    seen = {(call["name"], json.loads(call["arguments"])["place"]) for call in calls}
    assert seen <= {("a", "sea"), ("b", "land")}
    # The schemas do not say whether there may be other arguments; nothing is invented.
    assert all(set(json.loads(call["arguments"])) == {"place"} for call in calls)


@pytest.mark.parametrize("model", ["tools", "ada"])
def test_with_a_schema_and_tools_the_answer_is_one_or_the_other(engine, model):
    described = {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}}
    fields = {"messages": MESSAGES, "tools": [TOOL], "response_format": described, "seed": 1}
    answer = engine.post(PATH, model=model, n=16, temperature=2, **fields).json()
    kinds = set()
    for choice in answer["choices"]:
        kinds.add(choice["finish_reason"])
        if choice["finish_reason"] == "tool_calls":
            for call in choice["message"]["tool_calls"]:
                assert set(json.loads(call["function"]["arguments"])) == {"place", "days"}
        else:
            assert set(json.loads(choice["message"]["content"])) == {"team", "sure"}
    assert kinds <= {"stop", "tool_calls"}
    forced = engine.post(PATH, model=model, tool_choice="required", **fields).json()
    assert forced["choices"][0]["finish_reason"] == "tool_calls"
    none = engine.post(PATH, model=model, tool_choice="none", **fields).json()
    assert set(json.loads(none["choices"][0]["message"]["content"])) == {"team", "sure"}


def test_a_schema_that_leaves_other_properties_open_gets_none(engine):
    schema = {
        "type": "object",
        "properties": {
            "sure": {"type": "boolean"},
            "where": {"type": "object", "properties": {"sea": {"type": "boolean"}}},
        },
        "required": ["sure", "where"],
    }
    described = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    fields = {"messages": MESSAGES, "response_format": described, "n": 8, "temperature": 2}
    for choice in engine.post(PATH, model=RED, **fields).json()["choices"]:
        answer = json.loads(choice["message"]["content"])
        assert set(answer) == {"sure", "where"}
        assert set(answer["where"]) <= {"sea"}


def nested(levels):
    schema = {"type": "boolean"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize("levels", [60, 130, 300])
def test_json_nested_too_deeply_is_refused_by_name(engine, levels):
    schema = nested(levels)
    described = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    tool = {"type": "function", "function": {"name": "a", "parameters": schema}}
    content = [{"type": "text", "text": "a", "extra": schema}]
    for fields in (
        {"response_format": described},
        {"tools": [tool], "tool_choice": "required"},
        {"messages": [{"role": "user", "content": content}]},
    ):
        body = {"model": "ada", "messages": MESSAGES, **fields}
        response = engine.post(PATH, **body)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == next(iter(fields))


def test_a_schema_of_many_levels_is_followed(engine):
    described = {"type": "json_schema", "json_schema": {"name": "t", "schema": nested(20)}}
    response = engine.post(PATH, model="ada", messages=MESSAGES, response_format=described)
    answer = json.loads(response.json()["choices"][0]["message"]["content"])
    for _ in range(20):
        answer = answer["a"]
    assert isinstance(answer, bool)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "x"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            "response_format",
        ),
    ],
)
def test_formats_and_tools_that_are_refused(engine, body, param):
    response = engine.post(PATH, model="ada", messages=MESSAGES, **body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
