"""What may be forced is what is read: walks through the grammars of all call syntaxes."""

from __future__ import annotations

import json
import random

import pytest

from tunesmith.engine.domain.answer_syntax import CALL_SYNTAXES, HARMONY, AnswerSyntax
from tunesmith.engine.serving.answer_parser import AnswerParser, TextSpan
from tunesmith.engine.serving.call_grammar import (
    GrammarWriter,
    UnsupportedSchemaError,
    harmony_rules,
)

SCHEMA = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["sea", "land", 3]},
        "ok": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
        "where": {"$ref": "#/$defs/Point"},
        "note": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    },
    "required": ["place", "days"],
    "additionalProperties": False,
    "$defs": {
        "Point": {
            "type": "object",
            "properties": {"x": {"type": "boolean"}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
}
FUNCTIONS = [{"name": "weather", "parameters": SCHEMA}, {"name": "now"}]
SCHEMAS = {"weather": SCHEMA, "now": {"type": "object", "maxProperties": 0}}
MARKS = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|channel|>",
    "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|tool_call>", "<tool_call|>",
    '<|"|>', "<|tool_call|>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<escape>", "<|START_ACTION|>", "<|END_ACTION|>",
)  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["marks are tokens", "marks are text"])
def vocabulary(request, tiny_base_model):
    """A tokenizer, and llguidance's form of it."""
    import llguidance.hf
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    if request.param:
        tokens = [AddedToken(mark, special=True, normalized=False) for mark in MARKS]
        tokenizer.add_tokens(tokens, special_tokens=True)
    return tokenizer, llguidance.hf.from_tokenizer(tokenizer, n_vocab=len(tokenizer))


def walk(vocabulary, grammar, dice):
    """Return a text that the grammar allows."""
    from llguidance import LLMatcher

    tokenizer, form = vocabulary
    matcher = LLMatcher(form, LLMatcher.grammar_from_lark(grammar), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = []
    while not matcher.is_stopped() and len(tokens) < 2000:
        mask = matcher.compute_logit_bias()
        allowed = [token for token, bias in enumerate(mask) if bias]
        if tokenizer.eos_token_id in allowed:
            break
        closing = [t for t in allowed if tokenizer.decode([t]).strip() in {'"', "}", "]", "<"}]
        token = dice.choice(closing if closing and dice.random() < 0.4 else allowed)
        matcher.consume_token(token)
        assert not matcher.is_error(), matcher.get_error()
        tokens.append(token)
    assert matcher.is_accepting() or matcher.is_stopped()
    return tokenizer.decode(tokens, skip_special_tokens=False)


@pytest.mark.parametrize("name", [*CALL_SYNTAXES, HARMONY])
def test_whatever_is_forced_is_read_as_calls(vocabulary, name):
    jsonschema = pytest.importorskip("jsonschema")
    dice = random.Random(name)  # noqa: S311 - dice for a test
    if name == HARMONY and not any(
        t.content == "<|end|>" for t in vocabulary[0].added_tokens_decoder.values()
    ):
        pytest.skip("models that speak in channels have the marks as tokens")
    for _ in range(4):
        writer = GrammarWriter(vocabulary[0].added_tokens_decoder)
        if name == HARMONY:
            start = harmony_rules(writer, None, FUNCTIONS, forced=True)
        else:
            start = writer.calls(CALL_SYNTAXES[name], FUNCTIONS, several=True)
        text = walk(vocabulary, writer.grammar(start), dice)
        parser = AnswerParser(AnswerSyntax(None, name), {"weather": SCHEMA, "now": {}})
        parser.advance(text, final=True)
        calls = {}
        for part in parser.parts:
            if isinstance(part, TextSpan):
                assert part.kind == "reasoning" or not text[part.start : part.end].strip(), text
                continue
            if part.name is not None:
                calls[part.index] = (part.name, [])
            calls[part.index][1].append(part.arguments)
        assert calls, text
        for function, pieces in calls.values():
            jsonschema.validate(json.loads("".join(pieces)), SCHEMAS[function])


def test_marks_are_forced_as_the_tokens_that_they_are():
    class Token:
        content = "<tool_call>"

    writer = GrammarWriter({7: Token})
    assert writer.literal("<tool_call>\n{") == '<[7]> "\\n{"'


def test_one_call_where_there_may_be_no_other():
    for name, syntax in CALL_SYNTAXES.items():
        writer = GrammarWriter({})
        assert "*" not in writer.calls(syntax, FUNCTIONS[1:], several=False), name


def test_what_a_form_cannot_express_is_named():
    schema = {"type": "object", "properties": {"a": {"type": "object", "minProperties": 2}}}
    writer = GrammarWriter({})
    with pytest.raises(UnsupportedSchemaError) as failure:
        writer.calls(CALL_SYNTAXES["gemma"], [{"name": "f", "parameters": schema}], several=False)
    assert failure.value.keyword == "minProperties"
    assert failure.value.function == "f"
