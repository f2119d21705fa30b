"""What a model thinks, says and calls, over the whole path: a tiny model that was taught to."""

from __future__ import annotations

import json
import shutil

import pytest

from tunesmith.engine.home import Home

PATH = "/chat/completions"

# As Qwen3's: thoughts by default, none on request, calls between tags, thoughts in the history.
QWEN_TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>"
    "<tool_call></tool_call>{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ message.content }}{% for call in message.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
HARMONY_TEMPLATE = (
    "<|start|>system<|message|>Reasoning: {{ reasoning_effort | default('medium') }}"
    "{% if tools %}{{ tools | tojson }}{% endif %}<|end|>"
    "{% for message in messages %}<|start|>{{ message.role }}"
    "{% if message.role == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ message.content }}"
    "{% if message.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "sea"}}\n</tool_call>'
HEADER = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>hm, Paris<|end|><|start|>assistant"
QWEN = {
    "think": "<think>\nhm, stop\n</think>\n\nParis. stop here",
    "plain": "Paris.",
    "call": "<think>\nhm\n</think>\n\nI look.\n" + CALL + "\n" + CALL.replace("sea", "land"),
    "broken": '<tool_call>{"name": broken</tool_call>',
}
HARMONY = {
    "think": ANALYSIS + "<|channel|>final<|message|>Paris.",
    "call": ANALYSIS + HEADER + '{"place": "sea"}',
}
QWEN_MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
HARMONY_MARKS = (
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|return|>",
    "<|constrain|>",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["sea", "land"]}},
            "required": ["place"],
        },
    },
}


def teach(base, folder, template, marks, answers, *, special):
    """Write a copy of a model that answers each question as `answers` says."""
    import torch
    from tokenizers import AddedToken
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = [AddedToken(mark, special=special, normalized=False) for mark in marks]
    tokenizer.add_tokens(tokens, special_tokens=special)
    tokenizer.chat_template = template
    if "<|return|>" in marks:
        tokenizer.eos_token = "<|return|>"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    rows = []
    for question, answer in answers.items():
        for tools in [None] if question != "call" else [[TOOL]]:
            options = {"enable_thinking": False} if question == "plain" else {}
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                tools=tools,
                tokenize=False,
                add_generation_prompt=True,
                **options,
            )
            ids = tokenizer.encode(prompt, add_special_tokens=False)
            learned = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
            rows.append((ids, learned))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(400):
        losses = []
        for ids, learned in rows:
            labels = torch.tensor([[-100] * len(ids) + learned])
            losses.append(model(input_ids=torch.tensor([ids + learned]), labels=labels).loss)
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def taught(tiny_base_model, tmp_path_factory, serve):
    folder = tmp_path_factory.mktemp("answers")
    home = Home(folder / "home")
    home.root.mkdir()
    qwen = teach(tiny_base_model, folder / "qwen", QWEN_TEMPLATE, QWEN_MARKS, QWEN, special=False)
    oss = teach(
        tiny_base_model, folder / "oss", HARMONY_TEMPLATE, HARMONY_MARKS, HARMONY, special=True
    )
    home.base_model_table.write_text(
        f'[base.qwen]\npath = "{qwen.as_posix()}"\n[base.oss]\npath = "{oss.as_posix()}"\n'
        f'[base.raw]\npath = "{qwen.as_posix()}"\nthinking = "none"\n',
        "utf-8",
    )
    with serve(home, {}) as engine:
        yield engine


def ask(engine, model, question, **fields):
    """Return a choice, having checked that the stream gives the same."""
    fields = {"temperature": 0, "max_tokens": 120, **fields}
    if question == "call":
        fields = {"tools": [TOOL], **fields}
    messages = [{"role": "user", "content": question}]
    response = engine.post(PATH, model=model, messages=messages, **fields)
    assert response.status_code == 200, response.text
    answer = response.json()
    [choice] = answer["choices"]
    usage = {"stream_options": {"include_usage": True}}
    chunks = engine.stream(PATH, model=model, messages=messages, **fields, **usage)
    deltas = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    for name in ("content", "reasoning_content"):
        text = "".join(delta["delta"].get(name) or "" for delta in deltas)
        assert text == (choice["message"].get(name) or "")
    calls = {}
    for delta in deltas:
        for piece in delta["delta"].get("tool_calls", ()):
            if piece["index"] not in calls:
                assert piece["id"]
                assert piece["function"]["name"]
                calls[piece["index"]] = [piece["function"]["name"], ""]
            calls[piece["index"]][1] += piece["function"]["arguments"]
    assert list(map(tuple, calls.values())) == called(choice)
    assert deltas[-1]["finish_reason"] == choice["finish_reason"]
    assert chunks[-1]["usage"] == answer["usage"]
    if choice["logprobs"] is not None:
        tokens = [t for d in deltas if d["logprobs"] for t in d["logprobs"]["content"]]
        assert tokens == choice["logprobs"]["content"]
        text = b"".join(bytes(token["bytes"]) for token in tokens).decode()
        # The token that a stop sequence begins in is one of the content, as far as it goes.
        assert text.startswith(choice["message"]["content"])
        assert len(text) < len(choice["message"]["content"]) + 8
    return {**choice, "usage": answer["usage"]}


def called(choice):
    return [
        (call["function"]["name"], call["function"]["arguments"])
        for call in choice["message"].get("tool_calls", ())
    ]


def test_thoughts_are_no_part_of_the_answer(taught):
    choice = ask(taught, "qwen", "think", logprobs=True)
    assert choice["message"]["reasoning_content"] == "hm, stop"
    assert choice["message"]["content"] == "Paris. stop here"
    assert choice["finish_reason"] == "stop"
    usage = choice["usage"]
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < thoughts < usage["completion_tokens"] - len(choice["logprobs"]["content"])


def test_channels(taught):
    choice = ask(taught, "oss", "think", logprobs=True)
    assert choice["message"]["reasoning_content"] == "hm, Paris"
    assert choice["message"]["content"] == "Paris."
    assert choice["finish_reason"] == "stop"
    choice = ask(taught, "oss", "call")
    assert choice["message"]["content"] is None
    assert called(choice) == [("weather", '{"place": "sea"}')]
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "off", [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}]
)
def test_thinking_is_switched_off_by_request(taught, off):
    choice = ask(taught, "qwen", "plain", **off)
    assert choice["message"]["content"] == "Paris."
    assert "reasoning_content" not in choice["message"]
    assert choice["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_thoughts_are_left_out_by_request(taught):
    choice = ask(taught, "qwen", "think", include_reasoning=False)
    assert "reasoning_content" not in choice["message"]
    assert choice["message"]["content"] == "Paris. stop here"
    assert choice["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_the_models_table_says_that_a_model_does_not_think(taught):
    choice = ask(taught, "raw", "think")
    assert choice["message"]["content"] == QWEN["think"]


def test_stop_sequences_end_what_is_said_not_what_is_thought(taught):
    choice = ask(taught, "qwen", "think", stop="stop", logprobs=True)
    assert choice["message"]["reasoning_content"] == "hm, stop"
    assert choice["message"]["content"] == "Paris. "
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("model", ["qwen", "oss"])
def test_cut_off_amid_thoughts(taught, model):
    choice = ask(taught, model, "think", max_tokens=4)
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == ""
    assert choice["usage"]["completion_tokens"] == 4
    whole = {"qwen": "hm, stop", "oss": "hm, Paris"}[model]
    assert whole.startswith(choice["message"].get("reasoning_content", ""))


def test_text_thoughts_and_parallel_calls(taught):
    choice = ask(taught, "qwen", "call")
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["content"] == "I look."
    assert called(choice) == [("weather", '{"place": "sea"}'), ("weather", '{"place": "land"}')]
    assert choice["finish_reason"] == "tool_calls"
    identities = {call["id"] for call in choice["message"]["tool_calls"]}
    assert len(identities) == 2
    one = ask(taught, "qwen", "call", parallel_tool_calls=False)
    assert called(one) == [("weather", '{"place": "sea"}')]
    assert one["usage"]["completion_tokens"] < choice["usage"]["completion_tokens"]


def test_cut_off_in_a_call(taught):
    whole = ask(taught, "qwen", "call", parallel_tool_calls=False)["usage"]["completion_tokens"]
    choice = ask(taught, "qwen", "call", max_tokens=whole - 6)
    assert choice["finish_reason"] == "length"
    [(name, arguments)] = called(choice)
    assert name == "weather"
    assert '{"place": "sea"}'.startswith(arguments)


def test_a_broken_call_is_text(taught):
    choice = ask(taught, "qwen", "broken", tools=[TOOL])
    assert "tool_calls" not in choice["message"]
    without = ask(taught, "qwen", "broken")
    assert without["message"]["content"] == QWEN["broken"]


@pytest.mark.parametrize("model", ["qwen", "oss"])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_forced_calls_are_written_as_the_model_has_learned_them(taught, model, choice):
    forced = ask(taught, model, "call", tool_choice=choice, parallel_tool_calls=False)
    [(name, arguments)] = called(forced)
    assert name == "weather"
    assert json.loads(arguments)["place"] in {"sea", "land"}
    # Forced alone it would call at once: the thoughts before show that it writes as it learned.
    assert forced["message"]["reasoning_content"].startswith("hm")
    assert forced["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("model", ["qwen", "oss"])
def test_a_schema_holds_after_the_thoughts(taught, model):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
    }
    described = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    choice = ask(taught, model, "think", response_format=described)
    assert choice["message"]["reasoning_content"].startswith("hm")
    assert json.loads(choice["message"]["content"])["city"] in {"Paris", "Rome"}


def test_the_history_has_thoughts_and_calls(taught):
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"place": "sea"}'},
    }
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages = [
        {"role": "user", "content": "call"},
        {**turn, "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": "calm"},
    ]
    fields = {"model": "qwen", "max_tokens": 1, "tools": [TOOL]}
    with_thoughts = taught.post(PATH, messages=messages, **fields)
    assert with_thoughts.status_code == 200, with_thoughts.text
    messages[1] = turn
    without = taught.post(PATH, messages=messages, **fields)
    used = [one.json()["usage"]["prompt_tokens"] for one in (with_thoughts, without)]
    assert used[0] > used[1]


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        ("oss", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("qwen", {"reasoning_effort": "extreme"}, "reasoning_effort"),
        ("qwen", {"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ("qwen", {"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs"),
    ],
)
def test_what_is_refused(taught, model, body, param):
    messages = [{"role": "user", "content": "think"}]
    response = taught.post(PATH, model=model, messages=messages, **body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
