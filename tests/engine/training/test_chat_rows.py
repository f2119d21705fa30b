"""A chat is learned as it is served: the same prompt, token for token, then the reply."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_templates import FAMILIES
from tunesmith.engine.api.chat_requests import ChatBody
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.chat_template import THINKING, end_token_ids
from tunesmith.engine.serving.input_processor import (
    chat_template,
    find_stop_tokens,
    tokenize_prompts,
)
from tunesmith.engine.serving.vocabulary import read_vocabulary
from tunesmith.engine.training.examples import read_examples, tokenizer_template

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def folders(tiny_base_model, tmp_path_factory):
    """A folder for each family, with the tiny model's tokenizer, its template and its tokens."""
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("families")
    for name, family in FAMILIES.items():
        tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
        special = [family.bos, family.eos, *family.special, *family.ends]
        tokenizer.add_special_tokens(
            {"bos_token": family.bos, "eos_token": family.eos, "extra_special_tokens": special}
        )
        tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
        tokenizer.chat_template = family.template
        folder = root / name
        tokenizer.save_pretrained(folder)
        ends = tokenizer.convert_tokens_to_ids([family.eos, *family.ends])
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 4096}
        (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
        generation = json.dumps({"eos_token_id": ends})
        (folder / "generation_config.json").write_text(generation, encoding="utf-8")
    return root


def examples_of(folder, path, row):
    from transformers import AutoTokenizer

    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = tokenizer_template(tokenizer, end_token_ids(folder))
    return read_examples(path, tokenizer, template, max_tokens=4096), tokenizer


def served(vocabulary, messages, tools):
    body = {"model": "m", "messages": messages} | ({"tools": tools} if tools else {})
    request = ChatBody.model_validate(body).to_generation()
    [tokens] = tokenize_prompts(vocabulary, request)
    return tokens, find_stop_tokens(vocabulary, request) | vocabulary.eos_token_ids


def learned_runs(example):
    """Yield the start and the end of each run of learned tokens."""
    start = None
    for place, is_learned in enumerate([*example.scored, False]):
        if is_learned and start is None:
            start = place
        if not is_learned and start is not None:
            yield start, place
            start = None


# Gemma 2 takes no system message; Llama and gpt-oss take one call in a message; Mistral-Nemo
# drops the system message behind the result of a call.
REFUSING = {"gemma2", "llama3.1", "gpt-oss", "mistral-nemo"}

TEXT = st.sampled_from(
    ["a", "The sea.", " spaced ", "two\n\nlines", 'a "quoted" {word}', "Grüße 日本 🎉", "1", "love"]
)
PARTS = TEXT.map(lambda text: [{"type": "text", "text": text[:2]}, {"type": "text", "text": "x"}])
CONTENT = TEXT | PARTS
ARGUMENTS = st.dictionaries(st.sampled_from(["city", "days"]), TEXT | st.integers(0, 9), min_size=1)


@st.composite
def conversations(draw):
    """Rows in the forms in which people have them."""
    messages = []
    if draw(st.booleans()):
        role = draw(st.sampled_from(["system", "developer"]))
        messages.append({"role": role, "content": draw(CONTENT)})
    tools = draw(st.booleans())
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(CONTENT)})
        if tools and draw(st.booleans()):
            calls = []
            for number in range(draw(st.integers(1, 2))):
                arguments = draw(ARGUMENTS)
                written = json.dumps(arguments, ensure_ascii=draw(st.booleans()))
                function = {"name": "weather", "arguments": written}
                identity = f"call_{turn}_{number}"
                calls.append({"id": identity, "type": "function", "function": function})
            content = draw(st.sampled_from([{}, {"content": None}, {"content": ""}]))
            messages.append({"role": "assistant", **content, "tool_calls": calls})
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": draw(CONTENT)}
                for call in calls
            ]
        weight = draw(st.sampled_from([{}, {"weight": 1}, {"weight": 0}]))
        messages.append({"role": "assistant", "content": draw(CONTENT), **weight})
    messages[-1].pop("weight", None)
    return {"messages": messages} | ({"tools": [TOOL]} if tools else {})


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(row=conversations())
def test_every_learned_reply_stands_behind_the_prompt_that_is_served(
    folders, tmp_path_factory, name, row
):
    path = tmp_path_factory.getbasetemp() / f"{name}.jsonl"
    try:
        examples, _ = examples_of(folders / name, path, row)
    except TrainingError:
        if name in REFUSING:
            return
        raise
    vocabulary = read_vocabulary(folders / name)
    messages = row["messages"]
    taught = [
        index
        for index, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("weight", 1)
    ]
    runs = [(example, *run) for example in examples for run in learned_runs(example)]
    assert len(runs) == len(taught)
    for index, (example, start, end) in zip(taught, runs, strict=True):
        prompt, stops = served(vocabulary, messages[:index], row.get("tools"))
        assert example.tokens[:start].tolist() == prompt
        assert int(example.tokens[end - 1]) in stops


@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "deepseek-r1", "gpt-oss"])
def test_thoughts_are_learned_behind_a_prompt_that_asks_for_them(folders, tmp_path, name):
    question = {"role": "user", "content": "Capital?"}
    answer = {"role": "assistant", "content": "Paris.", "reasoning_content": "France."}
    [example], tokenizer = examples_of(
        folders / name, tmp_path / "row.jsonl", {"messages": [question, answer]}
    )
    vocabulary = read_vocabulary(folders / name)
    template = chat_template(vocabulary)
    [(start, end)] = learned_runs(example)
    options = THINKING if name == "qwen3.5" else {}
    asked = template.prompt([question], **options)
    assert tokenizer.decode(example.tokens[:start]) == asked
    learned = tokenizer.decode(example.tokens[start:end])
    assert learned.index("France.") < learned.index("Paris.")
    assert example.omitted_reasoning == 0


def test_thoughts_without_a_place_are_counted(folders, tmp_path):
    answer = {"role": "assistant", "content": "Paris.", "reasoning_content": "France."}
    row = {"messages": [{"role": "user", "content": "Capital?"}, answer]}
    [example], tokenizer = examples_of(folders / "smollm2", tmp_path / "row.jsonl", row)
    assert example.omitted_reasoning == 1
    assert tokenizer.decode(example.tokens[example.scored]) == "Paris.<|im_end|>"


@pytest.mark.parametrize(("name", "count"), [("qwen2.5", 1), ("qwen3", 2), ("phi3.5", 1)])
def test_replies_share_their_context_where_the_template_lets_them(folders, tmp_path, name, count):
    turns = [{"role": role, "content": role[:3]} for role in ("user", "assistant") * 2]
    examples, _ = examples_of(folders / name, tmp_path / "row.jsonl", {"messages": turns})
    assert len(examples) == count
    assert {example.line for example in examples} == {1}


@pytest.mark.parametrize(
    ("name", "messages", "complaint"),
    [
        (
            "gemma2",
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}],
            r"Line 1: .* cannot write messages\[2\] .*: System role not supported\.",
        ),
        (
            "qwen3",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            r"Line 1: messages\[0\]\.content\[0\] must be a string",
        ),
        (
            "llama3.1",
            [{"role": "user", "content": None}],
            r"Line 1: messages\[0\]\.content must be a string",
        ),
    ],
)
def test_what_a_template_cannot_say_is_refused_with_its_line(
    folders, tmp_path, name, messages, complaint
):
    row = {"messages": [*messages, {"role": "assistant", "content": "x"}]}
    with pytest.raises(TrainingError, match=complaint):
        examples_of(folders / name, tmp_path / "row.jsonl", row)
