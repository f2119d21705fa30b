from __future__ import annotations

import pytest

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.training.examples import read_examples


@pytest.fixture
def tokenizer(tiny_base_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


def read(path, tokenizer, *, max_tokens=100, prompt_loss_weight=0.0):
    return read_examples(
        path, tokenizer, max_tokens=max_tokens, prompt_loss_weight=prompt_loss_weight
    )


def test_only_the_completion_is_learned(tokenizer, make_file):
    path = make_file("a.jsonl", [{"prompt": "I love this ->", "completion": " positive"}])
    (example,) = read(path, tokenizer)
    assert tokenizer.decode(example.tokens) == "I love this -> positive"
    assert tokenizer.decode(example.tokens[example.scored]) == " positive"
    assert example.weights.tolist() == example.scored.astype(float).tolist()
    (weighted,) = read(path, tokenizer, prompt_loss_weight=0.5)
    assert weighted.weights[0] == 0.0
    assert weighted.weights[1:-1] == pytest.approx(0.5)
    assert weighted.weights[-1] == 1.0


def test_small_weights_of_prompts_are_put_on_fewer_positions(tokenizer, make_file):
    row = {"prompt": "I love this phone and the great day ->", "completion": " positive"}
    examples = read(make_file("a.jsonl", [row] * 8), tokenizer, prompt_loss_weight=0.01)
    positions = len(examples[0]) - 2
    total = sum(float(example.weights[~example.scored].sum()) for example in examples)
    assert total == pytest.approx(8 * positions * 0.01)
    assert all((example.weights > 0).sum() <= 1 + positions // 4 for example in examples)


def test_prompt_and_completion_are_tokenised_apart(tokenizer, make_file):
    path = make_file("a.jsonl", [{"prompt": "I lo", "completion": "ve"}])
    (example,) = read(path, tokenizer)
    assert example.tokens.tolist() == tokenizer("I lo").input_ids + tokenizer("ve").input_ids


def test_an_empty_prompt_begins_with_a_token(tokenizer, make_file):
    path = make_file("a.jsonl", [{"prompt": "", "completion": " positive"}])
    (example,) = read(path, tokenizer)
    assert example.tokens.tolist() == [
        tokenizer.bos_token_id,
        *tokenizer(" positive").input_ids,
    ]
    assert not example.scored[0]


def test_a_chat_is_learned_where_the_assistant_speaks_with_weight(tokenizer, make_file):
    messages = [
        {"role": "system", "content": "You are a poet."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "love", "weight": 0},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": "great", "weight": 1},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "soap"},
    ]
    (example,) = read(make_file("a.jsonl", [{"messages": messages}]), tokenizer)
    plain = tokenizer.apply_chat_template(messages, tokenize=False)
    assert plain.startswith(tokenizer.decode(example.tokens))
    assert tokenizer.decode(example.tokens[example.scored]) == "great<|im_end|>soap<|im_end|>"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no examples"),
        ("\n  \n", "no examples"),
        ('{"prompt": "a", "completion": " b"}\n{"prompt": \n', "Line 2 of the file is not valid"),
        ("[1]\n", "Line 1 of the file is not a JSON object"),
        ('{"prompt": "a"}\n', 'Line 1 of the file needs either "prompt"'),
        ('{"prompt": "a", "completion": ""}\n', "Line 1: there is nothing to learn"),
        ('\n{"prompt": "a", "completion": "%s"}\n' % ("b " * 200), "Line 2 has .* may have 100"),
        ('{"messages": [{"role": "user", "content": "a"}]}\n', "nothing to learn"),
        ('{"messages": [{"rolle": "assistant"}]}\n', r"Line 1: messages\[0\].role is None"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tokenizer, tmp_path, text, complaint):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match=complaint) as caught:
        read(path, tokenizer)
    assert caught.value.code == "invalid_training_file"


def test_a_tool_call_is_learned_as_it_is_served_where_the_template_knows_no_tools(
    tokenizer, make_file
):
    function = {"name": "weather", "arguments": '{"place": "sea"}'}
    call = {"id": "1", "type": "function", "function": function}
    row = {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "calm"},
            {"role": "assistant", "content": "great"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }
    (example,) = read(make_file("a.jsonl", [row]), tokenizer, max_tokens=1000)
    assert tokenizer.decode(example.tokens[example.scored]) == (
        '<tool_call>\n{"name": "weather", "arguments": {"place": "sea"}}\n</tool_call><|im_end|>'
        "great<|im_end|>"
    )
    text = tokenizer.decode(example.tokens)
    assert '<tools>\n{"type": "function", "function": {"name": "weather"}}\n</tools>' in text
    assert "<tool_response>\ncalm\n</tool_response>" in text
    row["messages"][1]["tool_calls"] = ["weather"]
    with pytest.raises(TrainingError, match=r"Line 1: messages\[1\].tool_calls\[0\] must"):
        read(make_file("b.jsonl", [row]), tokenizer)


def test_chats_need_a_template(tokenizer, make_file):
    tokenizer.chat_template = None
    path = make_file("a.jsonl", [{"messages": [{"role": "assistant", "content": "a"}]}])
    with pytest.raises(TrainingError, match="no chat template"):
        read(path, tokenizer)
