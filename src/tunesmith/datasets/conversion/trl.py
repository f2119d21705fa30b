"""The formats of TRL: preference, unpaired preference (KTO), prompt-completion and prompt-only.

Each has a standard form, of texts, and a conversational one, of messages. Both are read; written
is the conversational one, with the arguments of calls as objects, as chat templates want them.
Source: TRL's page on dataset formats.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tunesmith.datasets.json_text import decoded
from tunesmith.datasets.json_types import is_array, is_object

from .example import (
    Answers,
    Example,
    Message,
    NotConvertibleError,
    Written,
    as_conversation,
    as_prompt,
    divide,
    labelled_answers,
    messages_of,
    rest_of,
    tools_of,
)

__all__ = [
    "read_kto",
    "read_preference",
    "read_prompt",
    "read_prompt_completion",
    "write_kto",
    "write_preference",
    "write_prompt",
    "write_prompt_completion",
]

_KNOWN: Final = ("completion", "chosen", "rejected", "tools", "system")
# Where data sets keep the prompt; the first that is there counts.
_PROMPTS: Final = ("prompt", "messages", "question", "query", "input")
# Dialogues in one text, as in Anthropic's data on helpfulness and harmlessness.
_SPEAKER: Final = re.compile(r"(?:\A|\n)\n(Human|Assistant):[ ]?")


def _messages(row: dict[str, Any], name: str, role: str, tools: Any = None) -> list[Message]:
    """Return a field as messages: a text is one message of the role, unless it holds messages."""
    given = row.get(name)
    value = decoded(given)
    if isinstance(given, str) and not (is_array(value) and value and all(map(_is_message, value))):
        return [{"role": role, "content": given}] if given else []
    if is_object(value):
        value = [value]
    return messages_of(value, f"$.{name}", tools)


def _is_message(value: Any) -> bool:
    return is_object(value) and ("role" in value or "from" in value)


def _prompt_name(row: dict[str, Any]) -> str | None:
    return next((name for name in _PROMPTS if name in row), None)


def _prompt(row: dict[str, Any], tools: Any) -> list[Message]:
    name = _prompt_name(row)
    messages = _messages(row, name, "user", tools) if name else []
    if messages and messages[0]["role"] == "system":
        return messages
    return [*_messages(row, "system", "system"), *messages] if row.get("system") else messages


def _example(row: dict[str, Any], **parts: Any) -> Example:
    labels = ("label", "kto_tag") if parts["kind"] == "labelled" else ()
    known = (*_KNOWN, *labels, _prompt_name(row) or "")
    return Example(tools=tools_of(row.get("tools")), rest=rest_of(row, known), **parts)


def read_preference(row: dict[str, Any]) -> Example:
    """Read a preference row, with its prompt or with one that both answers begin with."""
    tools = row.get("tools")
    chosen, rejected = (_answer(row, name, tools) for name in ("chosen", "rejected"))
    prompt = _prompt(row, tools)
    if not _prompt_name(row):
        if _is_plain(row["chosen"]):
            raise NotConvertibleError(
                "it has no 'prompt', and where the prompt ends inside two texts is not known",
                "$.prompt",
            )
        shared = 0
        while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
            shared += 1
        prompt = [*prompt, *chosen[:shared]]
        chosen, rejected = chosen[shared:], rejected[shared:]
    elif prompt and chosen[: len(prompt)] == rejected[: len(prompt)] == prompt:
        # Some data sets repeat the prompt at the start of both answers.
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not chosen or not rejected:
        raise NotConvertibleError("one of its answers is empty")
    return _example(row, kind="preference", messages=prompt, answers=Answers(chosen, rejected))


def _is_plain(value: Any) -> bool:
    """Return whether a text is one answer, not a dialogue or messages."""
    return isinstance(value, str) and not is_array(decoded(value)) and not _dialogue(value)


def _answer(row: dict[str, Any], name: str, tools: Any) -> list[Message]:
    value = row[name]
    if isinstance(value, str) and not _prompt_name(row) and (turns := _dialogue(value)):
        return turns
    return _messages(row, name, "assistant", tools)


def _dialogue(text: str) -> list[Message]:
    """Return the turns of a text in which `Human:` and `Assistant:` speak; none for another."""
    before, *parts = _SPEAKER.split(text)
    if before.strip() or len(parts) <= 2:  # noqa: PLR2004 - one speaker and one turn
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": roles[speaker], "content": said.strip()} for speaker, said in turns]


def write_preference(example: Example) -> Written:
    """Write a preference row."""
    if example.answers is None:
        raise NotConvertibleError("it has one answer, and a preference needs two")
    row = {
        "prompt": _with_objects(example.messages),
        "chosen": _with_objects(example.answers.chosen),
        "rejected": _with_objects(example.answers.rejected),
    }
    return _written([row], example, [])


def read_kto(row: dict[str, Any]) -> Example:
    """Read a row whose answer is labelled as good or bad."""
    tools = row.get("tools")
    messages = _prompt(row, tools)
    if "completion" in row:
        messages = [*messages, *_messages(row, "completion", "assistant", tools)]
    divide(messages)
    name = "label" if "label" in row else "kto_tag"
    label = row[name]
    if isinstance(label, str):
        label = label.strip().casefold() == "true"
    return _example(row, kind="labelled", messages=messages, label=label)


def write_kto(example: Example) -> Written:
    """Write rows with a label; a preference becomes two of them."""
    rows = [
        {
            "prompt": _with_objects(prompt),
            "completion": _with_objects(answer),
            "label": label,
        }
        for prompt, answer, label in labelled_answers(example)
    ]
    return _written(rows, example, [])


def read_prompt_completion(row: dict[str, Any]) -> Example:
    """Read a row of two lists of messages."""
    tools = row.get("tools")
    prompt = _messages(row, "prompt", "user", tools)
    return _example(
        row,
        kind="conversation",
        messages=[*prompt, *_messages(row, "completion", "assistant", tools)],
    )


def write_prompt_completion(example: Example) -> Written:
    """Write a row of two lists of messages."""
    messages, lost = as_conversation(example)
    prompt, answer = divide(messages)
    row = {"prompt": _with_objects(prompt), "completion": _with_objects(answer)}
    return _written([row], example, lost)


def read_prompt(row: dict[str, Any]) -> Example:
    """Read a row that only asks; its other keys stay with it."""
    return _example(row, kind="prompt", messages=_prompt(row, row.get("tools")))


def write_prompt(example: Example) -> Written:
    """Write a row that only asks, with all other fields."""
    messages, lost = as_prompt(example)
    row = {"prompt": _with_objects(messages)}
    return _written([{**row, **example.rest}], example, lost)


def _written(rows: list[dict[str, Any]], example: Example, lost: list[str]) -> Written:
    tools = {"tools": example.tools} if example.tools else {}
    lost = [*lost, *(f"'{name}'" for name in example.fields)]
    return Written([{**row, **tools} for row in rows], lost)


def _with_objects(messages: list[Message]) -> list[Message]:
    """Return messages with the arguments of calls as objects."""
    return [_message_with_objects(message) for message in messages]


def _message_with_objects(message: Message) -> Message:
    if not is_array(message.get("tool_calls")):
        return message
    calls = [_call_with_object(call) for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _call_with_object(call: Any) -> Any:
    function = call.get("function") if is_object(call) else None
    if not is_object(function) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
