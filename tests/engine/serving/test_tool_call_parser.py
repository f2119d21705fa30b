"""Thoughts, text and calls are told apart in every syntax, however the text arrives."""

# ruff: noqa: E501, ISC004 - the cases read best as a table

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.engine.domain.answer_syntax import (
    CALL_SYNTAXES,
    HARMONY,
    THINKING_SYNTAXES,
    AnswerSyntax,
    find_syntax,
)
from tunesmith.engine.serving.answer_parser import AnswerParser, TextSpan

FUNCTIONS = {
    "weather": {
        "type": "object",
        "properties": {
            "place": {"type": "string"},
            "days": {"type": "integer"},
            "ok": {"type": "boolean"},
        },
    },
    "now": {},
}
ARGUMENTS = '{"place": "sea", "days": 2}'
WEATHER = ("weather", ARGUMENTS)
NOW = ("now", "{}")


def read(text, calls="hermes", thinking=None, *, cuts=(), parallel=True, opened=False):
    """Return the thoughts, the content and the calls of a text that came in pieces."""
    syntax = AnswerSyntax(THINKING_SYNTAXES.get(thinking), calls)
    parser = AnswerParser(syntax, FUNCTIONS, parallel=parallel, thinking=opened)
    for cut in sorted(cuts):
        parser.advance(text[:cut])
    parser.advance(text, final=True)
    texts = {"reasoning": "", "content": ""}
    found = {}
    for part in parser.parts:
        if isinstance(part, TextSpan):
            texts[part.kind] += text[part.start : part.end]
        else:
            if part.name is not None:
                assert part.id
                found[part.index] = [part.name, ""]
            found[part.index][1] += part.arguments
    return texts["reasoning"], texts["content"], [tuple(call) for call in found.values()]


def section(call, count=1):
    return "\n".join([f"<tool_call>\n{call}\n</tool_call>"] * count)


JSON_CALL = f'{{"name": "weather", "arguments": {ARGUMENTS}}}'
XML_CALL = (
    '<tool_call>\n<function=weather>\n<parameter=place>\nthe "sea"\nand <b>\n</parameter>\n'
    "<parameter=days>\n2\n</parameter>\n<parameter=ok>\ntrue\n</parameter>\n</function>\n"
    "</tool_call>"
)
DEEPSEEK_NOW = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
HARMONY_CALL = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>" + ARGUMENTS
CASES = {
    "text": ("hermes", None, "The sea is calm.\n", ("", "The sea is calm.\n", [])),
    "no call": ("hermes", None, "a <tool is no call", ("", "a <tool is no call", [])),
    "nothing": ("hermes", None, "", ("", "", [])),
    "hermes": ("hermes", None, section(JSON_CALL), ("", "", [WEATHER])),
    "two": ("hermes", None, section(JSON_CALL, 2), ("", "", [WEATHER, WEATHER])),
    "text, then a call": ("hermes", None, "I look.\n" + section(JSON_CALL), ("", "I look.", [WEATHER])),
    "text around": (
        "hermes", None, "I look. " + section(JSON_CALL) + "\nDone.", ("", "I look.\nDone.", [WEATHER]),
    ),
    "unclosed": ("hermes", None, "<tool_call>\n" + JSON_CALL, ("", "", [WEATHER])),
    "arguments first": (
        "hermes", None, section(f'{{"arguments": {ARGUMENTS}, "name": "weather"}}'), ("", "", [WEATHER]),
    ),
    "arguments as text": (
        "hermes", None, section('{"name": "now", "arguments": "{}"}'), ("", "", [NOW]),
    ),
    "broken": (
        "hermes", None, "<tool_call>{broken</tool_call> x", ("", "<tool_call>{broken</tool_call> x", []),
    ),
    "unknown tool": (
        "hermes", None, section('{"name": "other", "arguments": {}}'),
        ("", section('{"name": "other", "arguments": {}}'), []),
    ),
    "thoughts": ("hermes", "think", "<think>\nhm\n</think>\n\nParis.", ("hm", "Paris.", [])),
    "no thoughts": ("hermes", "think", "<think>\n\n</think>\n\nParis.", ("", "Paris.", [])),
    "thoughts and a call": (
        "hermes", "think", "<think>\nhm\n</think>\n\n" + section(JSON_CALL), ("hm", "", [WEATHER]),
    ),
    "thoughts not closed": (
        "hermes", "think", "<think>hm " + section(JSON_CALL), ("hm", "", [WEATHER]),
    ),
    "thoughts cut off": ("hermes", "think", "<think>\nhm, a </thi", ("hm, a </thi", "", [])),
    "later tags": ("hermes", "think", "a <think>b</think>", ("", "a <think>b</think>", [])),
    "thoughts, response": (
        "hermes", "think_response", "<think>hm</think><response>Paris.</response>", ("hm", "Paris.", []),
    ),
    "llama": ("llama", None, f'{{"name": "weather", "parameters": {ARGUMENTS}}}', ("", "", [WEATHER])),
    "llama with a mark": (
        "llama", None, f'<|python_tag|>{{"name": "weather", "parameters": {ARGUMENTS}}}; '
        '{"name": "now", "parameters": {}}', ("", "", [WEATHER, NOW]),
    ),
    "llama, with a type": (
        "llama", None, '{"type": "function", "name": "now", "parameters": {}}', ("", "", [NOW]),
    ),
    "llama, nested": (
        "llama", None, '{"type": "function", "function": {"name": "now", "parameters": {}}}',
        ("", "", [NOW]),
    ),
    "JSON that is no call": ("llama", None, '{"place": 1}', ("", '{"place": 1}', [])),
    "a list of calls": ("hermes", None, f"[{JSON_CALL}]", ("", "", [WEATHER])),
    "mistral": (
        "mistral", None, f'[TOOL_CALLS] [{JSON_CALL[:-1]}, "id": "abcdefghi"}}, '
        '{"name": "now", "arguments": {}}]', ("", "", [WEATHER, NOW]),
    ),
    "mistral with arguments": (
        "mistral_args", "mistral", f"[THINK]hm[/THINK]Hi[TOOL_CALLS]weather[ARGS]{ARGUMENTS}"
        "[TOOL_CALLS]now[ARGS]{}", ("hm", "Hi", [WEATHER, NOW]),
    ),
    "mistral with an id": (
        "mistral_args", None, f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{ARGUMENTS}",
        ("", "", [WEATHER]),
    ),
    "mistral without a mark": (
        "mistral_args", None, f"[TOOL_CALLS]weather{ARGUMENTS}", ("", "", [WEATHER]),
    ),
    "qwen xml": (
        "qwen_xml", "think", "<think>\nhm\n</think>\n\n" + XML_CALL,
        ("hm", "", [("weather", '{"place": "the \\"sea\\"\\nand <b>", "days": 2, "ok": true}')]),
    ),
    "glm": (
        "glm", None, "<tool_call>weather\n<arg_key>place</arg_key>\n<arg_value>sea</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
        ("", "", [WEATHER, NOW]),
    ),
    "minimax": (
        "minimax", None, '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="place">sea'
        '</parameter>\n<parameter name="days">2</parameter>\n</invoke>\n</minimax:tool_call>',
        ("", "", [WEATHER]),
    ),
    "granite": ("granite", None, f"<|tool_call|>[{JSON_CALL}]", ("", "", [WEATHER])),
    "phi": ("phi", None, f"<|tool_call|>[{JSON_CALL}]<|/tool_call|>", ("", "", [WEATHER])),
    "cohere": (
        "cohere", "cohere", "<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n    "
        f'{{"tool_call_id": "0", "tool_name": "weather", "parameters": {ARGUMENTS}}}\n]<|END_ACTION|>',
        ("hm", "", [WEATHER]),
    ),
    "cohere, answer": (
        "cohere", "cohere", "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Hi<|END_RESPONSE|>",
        ("hm", "Hi", []),
    ),
    "deepseek": (
        "deepseek", None, "ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        f"```json\n{ARGUMENTS}\n```<｜tool▁call▁end｜>\n{DEEPSEEK_NOW}<｜tool▁calls▁end｜>",
        ("", "ok", [WEATHER, NOW]),
    ),
    "deepseek 3.1": (
        "deepseek_v31", None, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
        f"{ARGUMENTS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", ("", "", [WEATHER]),
    ),
    "kimi": (
        "kimi", None, "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
        f"<|tool_call_argument_begin|>{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>",
        ("", "", [WEATHER]),
    ),
    "gemma": (
        "gemma", "gemma", '<|channel>thought\nhm\n<channel|>Hi<|tool_call>call:weather{place:<|"|>the '
        '"sea"<|"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>',
        ("hm", "Hi", [("weather", '{"place": "the \\"sea\\"", "days": 2}'), NOW]),
    ),
    "function gemma": (
        "function_gemma", None,
        "<start_function_call>call:weather{place:<escape>sea<escape>,days:2}<end_function_call>",
        ("", "", [WEATHER]),
    ),
    "python": ("python", None, "[weather(place='sea', days=2), now()]", ("", "", [WEATHER, NOW])),
    "lfm": (
        "lfm", None, '<|tool_call_start|>[weather(place="sea", ok=True)]<|tool_call_end|>',
        ("", "", [("weather", '{"place": "sea", "ok": true}')]),
    ),
    "olmo": (
        "olmo", None, '<function_calls>weather(place="sea", days=2)\nnow()</function_calls>',
        ("", "", [WEATHER, NOW]),
    ),
    "channels": (
        HARMONY, None, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final"
        "<|message|>Paris.", ("hm", "Paris.", []),
    ),
    "channels, a call": (
        HARMONY, None, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant" + HARMONY_CALL,
        ("hm", "", [WEATHER]),
    ),
    "channels, two calls after text": (
        HARMONY, None, "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        + HARMONY_CALL + "<|end|><|start|>assistant to=functions.now<|channel|>commentary<|message|>{}",
        ("", "I look.", [WEATHER, NOW]),
    ),
    "no channels": (HARMONY, None, "Paris.", ("", "Paris.", [])),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_syntax_at_every_split(name):
    calls, thinking, text, expected = CASES[name]
    assert read(text, calls, thinking) == expected
    assert read(text, calls, thinking, cuts=range(len(text))) == expected
    for cut in range(len(text)):
        assert read(text, calls, thinking, cuts=[cut]) == expected


@pytest.mark.parametrize("name", CASES)
def test_a_text_that_breaks_off_is_the_same_in_pieces_and_whole(name):
    calls, thinking, text, _ = CASES[name]
    for end in range(len(text)):
        whole = read(text[:end], calls, thinking)
        assert read(text[:end], calls, thinking, cuts=range(end)) == whole


PIECES = st.sampled_from(
    [text[start : start + 9] for *_, text, _ in CASES.values() for start in range(0, len(text), 9)]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12), st.sampled_from([*CALL_SYNTAXES, HARMONY]), st.data())
def test_any_text_in_any_pieces(pieces, calls, data):
    text = "".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    whole = read(text, calls, "think")
    assert read(text, calls, "think", cuts=cuts) == whole
    if not whole[2] and calls != HARMONY and "<think>" not in text:
        assert whole[1] == text  # without a call nothing is left out


def test_text_is_not_kept_back():
    parser = AnswerParser(AnswerSyntax(None, "hermes"), FUNCTIONS)
    parser.advance("The sea")
    parser.advance("The sea is <tool_")
    assert parser.parts == [TextSpan("content", 0, 7), TextSpan("content", 7, 10)]


def test_arguments_are_passed_on_as_they_come():
    parser = AnswerParser(AnswerSyntax(None, "hermes"), FUNCTIONS)
    parser.advance('<tool_call>\n{"name": "weather", "arguments": {"pla')
    first, *pieces = parser.parts
    assert (first.name, first.arguments) == ("weather", "")
    assert "".join(piece.arguments for piece in pieces) == '{"pla'
    assert not any(piece.id or piece.name for piece in pieces)


def test_one_call_ends_the_answer_where_there_may_be_no_other():
    calls = section(JSON_CALL, 2) + " tail"
    assert read(calls, parallel=False) == ("", "", [WEATHER])


def test_thoughts_that_the_prompt_has_opened():
    assert read("hm\n</think>\nHi", "hermes", "think", opened=True) == ("hm", "Hi", [])
    assert read("hm", "hermes", "think", opened=True) == ("hm", "", [])


def test_identities_have_the_form_that_templates_prescribe():
    parser = AnswerParser(AnswerSyntax(None, "mistral"), FUNCTIONS)
    parser.advance('[TOOL_CALLS] [{"name": "now", "arguments": {}}]', final=True)
    assert len(parser.parts[0].id) == 9
    assert parser.parts[0].id.isalnum()


@pytest.mark.parametrize(
    ("template", "thinking", "calls"),
    [
        ("{{ tools }} <tool_call> <think>", "think", "hermes"),
        ('{{ tools }} {"name": function name, "parameters": dictionary}', None, "llama"),
        ("{{ tools }} [TOOL_CALLS] [ARGS] [THINK]", "mistral", "mistral_args"),
        ("{{ tools }} [TOOL_CALLS]", None, "mistral"),
        ("{{ tools }} <tool_call> <function= <think>", "think", "qwen_xml"),
        ("{{ tools }} <tool_call> <arg_key>", None, "glm"),
        ("{{ tools }} <|channel|>analysis<|message|>", None, HARMONY),
        ("{{ tools }} <|tool_call|> <|/tool_call|>", None, "phi"),
        ("{{ tools }} <|tool_call|>", None, "granite"),
        ("{{ tools }} <｜tool▁calls▁begin｜> ```json", None, "deepseek"),
        ("{{ tools }} <｜tool▁calls▁begin｜>", None, "deepseek_v31"),
        ("{{ tools }} <|tool_call> <|channel>", "gemma", "gemma"),
        ('{{ messages }} "parameters"', None, "hermes"),  # the engine writes the tools itself
    ],
)
def test_the_template_shows_the_syntax(template, thinking, calls):
    found = find_syntax(template)
    assert found == AnswerSyntax(THINKING_SYNTAXES.get(thinking), calls)
    assert find_syntax(template, thinking="none", calls="kimi") == AnswerSyntax(None, "kimi")


def test_arguments_that_are_invalid_json_are_what_the_model_wrote():
    text = section('{"name": "weather", "arguments": {"place": tru}}')
    _, content, [(name, arguments)] = read(text)
    assert (name, content) == ("weather", "")
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(arguments)


@pytest.mark.parametrize("calls", CALL_SYNTAXES)
@pytest.mark.parametrize(
    "text",
    [
        "<|tool_call>call:weather{place:" + "[" * 3000,
        "<start_function_call>call:weather{place:" + "{a:" * 3000,
        '<tool_call>{"name": "weather", "arguments": ' + '{"a":' * 300,
        "[weather(place=" + "[" * 3000 + "]" * 3000 + ")]",
        "[weather(place=" + "-" * 5000 + "1)]",
        "[" * 5000,
    ],
)
def test_nesting_without_end_breaks_nothing(text, calls):
    _, content, found = read(text, calls)
    assert content or found
