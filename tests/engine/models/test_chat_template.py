"""What each family's chat template makes of each kind of row: exact replies, or a refusal."""

from __future__ import annotations

import pytest

from chat_templates import FAMILIES
from tunesmith.datasets.chat_messages import normalize_messages
from tunesmith.engine.models.chat_template import ChatTemplate, TemplateError

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def call(city, identity="call_1"):
    function = {"name": "weather", "arguments": f'{{"city": "{city}"}}'}
    return {"id": identity, "type": "function", "function": function}


def user(text):
    return {"role": "user", "content": text}


def reply(text, **fields):
    return {"role": "assistant", "content": text, **fields}


SYSTEM = {"role": "system", "content": "Be brief."}
ROWS = {
    "one": [user("Capital?"), reply("Paris.")],
    "several": [user("Capital?"), reply("Paris."), user("And?"), reply("Rome.")],
    "system": [SYSTEM, user("Capital?"), reply("Paris."), user("And?"), reply("Rome.")],
    "thoughts": [user("Capital?"), reply("Paris.", reasoning_content="France, I think.")],
    "tool": [
        user("Weather?"),
        {"role": "assistant", "content": None, "tool_calls": [call("Oslo")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "7"},
        reply("Cold."),
    ],
    "parallel": [
        user("Weather?"),
        {"role": "assistant", "tool_calls": [call("Oslo"), call("Rome", "call_2")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "7"},
        {"role": "tool", "tool_call_id": "call_2", "content": "30"},
        reply("Differs."),
    ],
}


def template_of(name):
    family = FAMILIES[name]
    ends = frozenset({family.eos, *family.ends})
    names = (("bos_token", family.bos), ("eos_token", family.eos))
    return ChatTemplate(family.template, names, ends | {*family.special, family.bos}, ends)


def replies(name, row):
    """Return each reply that is learned from a row, behind the end of its prompt."""
    template = template_of(name)
    messages = normalize_messages(ROWS[row])
    tools = [TOOL] if row in {"tool", "parallel"} else None
    found = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            turn = template.turn(messages[: index + 1], tools)
            assert turn.prompt == template.prompt(messages[:index], tools) or row == "thoughts"
            found.append(turn)
    return found


def as_text(*cities):
    calls = (f'{{"name": "weather", "arguments": {{"city": "{city}"}}}}' for city in cities)
    return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in calls)


HERMES = {"tool": (as_text("Oslo"), "Cold."), "parallel": (as_text("Oslo", "Rome"), "Differs.")}
EMPTY = "<think>\n\n</think>\n\n"
CLOSED = "\n</think>\n\n"
R1_CALL = '<|call|>weather\n```json\n{"city": "%s"}\n```'
ANALYSIS = "<|channel|>analysis<|message|>%s<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
NEMO = '{"name": "weather", "arguments": {"city": "%s"}, "id": "%s"}'

# Family → row → what is learned, without the end of the turn; a text is why it is refused.
EXPECTED = {
    "qwen2.5": HERMES,
    "qwen3": {
        "one": (EMPTY + "Paris.",),
        "several": (EMPTY + "Paris.", EMPTY + "Rome."),
        "system": (EMPTY + "Paris.", EMPTY + "Rome."),
        "thoughts": ("<think>\nFrance, I think.\n</think>\n\nParis.",),
        "tool": (EMPTY + as_text("Oslo"), EMPTY + "Cold."),
        "parallel": (EMPTY + as_text("Oslo", "Rome"), EMPTY + "Differs."),
    },
    "qwen3.5": {**HERMES, "thoughts": ("France, I think.\n</think>\n\nParis.",)},
    "smollm2": HERMES,
    "smollm3": HERMES,
    "llama3.1": {
        "tool": ('{"name": "weather", "parameters": {"city": "Oslo"}}', "Cold."),
        "parallel": "only single tool-calls",
    },
    "gpt-oss": {
        "one": (FINAL + "Paris.",),
        "several": (FINAL + "Paris.", FINAL + "Rome."),
        "system": (FINAL + "Paris.", FINAL + "Rome."),
        "thoughts": (ANALYSIS % "France, I think." + FINAL + "Paris.",),
        "tool": (
            ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Oslo"}',
            FINAL + "Cold.",
        ),
        "parallel": "leaves out the call",
    },
    "mistral-nemo": {
        "tool": ("[TOOL_CALLS][" + NEMO % ("Oslo", "rKSxKBV4V") + "]", "Cold."),
        "parallel": (
            f"[TOOL_CALLS][{NEMO % ('Oslo', 'rKSxKBV4V')}, {NEMO % ('Rome', 'DtCg4hRqI')}]",
            "Differs.",
        ),
    },
    "gemma2": {**HERMES, "system": "System role not supported"},
    "gemma3": HERMES,
    "phi3.5": HERMES,
    "deepseek-r1": {
        "one": (CLOSED + "Paris.",),
        "several": (CLOSED + "Paris.", CLOSED + "Rome."),
        "system": (CLOSED + "Paris.", CLOSED + "Rome."),
        "thoughts": ("France, I think.\n</think>\n\nParis.",),
        "tool": (CLOSED + R1_CALL % "Oslo", "Cold."),
        "parallel": (CLOSED + R1_CALL % "Oslo" + R1_CALL % "Rome", "Differs."),
    },
    "plain": HERMES,
}
PLAIN = {
    "one": ("Paris.",),
    "several": ("Paris.", "Rome."),
    "system": ("Paris.", "Rome."),
    "thoughts": ("Paris.",),
}
ENDS = {
    "gemma2": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "phi3.5": "<|end|>",
}
WITHOUT_THOUGHTS = {
    *("qwen2.5", "smollm2", "smollm3", "llama3.1", "mistral-nemo", "gemma2", "gemma3"),
    *("phi3.5", "plain"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_reply_is_learned_exactly_or_refused(name, row):
    expected = (PLAIN | EXPECTED[name])[row]
    if isinstance(expected, str):
        with pytest.raises(TemplateError, match=expected):
            replies(name, row)
        return
    found = replies(name, row)
    ends = [ENDS.get(name, FAMILIES[name].eos)] * len(expected)
    if name == "gpt-oss" and row == "tool":
        ends[0] = "<|call|>"
    assert [turn.reply for turn in found] == list(map("".join, zip(expected, ends, strict=True)))
    omitted = row == "thoughts" and name in WITHOUT_THOUGHTS
    assert [turn.omitted_reasoning for turn in found] == [omitted] * len(found)


def test_a_system_message_stands_in_the_prompt_that_is_learned():
    for name in set(FAMILIES) - {"gemma2"}:
        assert all("Be brief." in turn.prompt for turn in replies(name, "system")), name


def test_tools_stand_in_every_prompt():
    for name in FAMILIES:
        template = template_of(name)
        assert "weather" in template.prompt([user("?")], [TOOL]), name


def test_thoughts_in_the_text_are_kept_where_the_template_leaves_them():
    text = "<think>\nFrance.\n</think>\n\nParis."
    expected = {
        "qwen2.5": text,
        "qwen3": text,
        "qwen3.5": "France.\n</think>\n\nParis.",
        "deepseek-r1": "France.\n</think>\n\nParis.",
        "gpt-oss": ANALYSIS % "France." + FINAL + "Paris.",
    }
    for name, written in expected.items():
        turn = template_of(name).turn([user("?"), reply(text)])
        assert turn.reply == written + FAMILIES[name].eos
        assert not turn.omitted_reasoning


def test_a_message_that_a_template_drops_is_refused():
    dropping = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}"
    template = ChatTemplate(dropping + "{% endfor %}")
    with pytest.raises(TemplateError, match=r"no place for messages\[0\], which is from the sys"):
        template.turn([SYSTEM, user("?"), reply("x")])


def test_ids_of_calls_are_the_same_in_call_and_result():
    [_, after] = replies("mistral-nemo", "tool")
    assert after.prompt.count("rKSxKBV4V") == 2


def test_the_ends_of_turns():
    assert template_of("gpt-oss").turn_ends() == {"<|return|>", "<|call|>"}
    assert template_of("phi3.5").turn_ends() == {"<|end|>"}
    assert template_of("plain").turn_ends() == {"</s>"}


def test_a_model_without_a_template():
    with pytest.raises(TemplateError, match="there is none"):
        ChatTemplate("").turn([user("?"), reply("x")])
