"""ShareGPT: `conversations` of turns with `from` and `value`, and beside them `system` and `tools`.

Turns are from human, gpt, system, function_call (the call as JSON) and observation (its result).
The names of axolotl, of LLaMA-Factory and of the Hermes data sets, whose calls stand in
`<tool_call>` tags, are read. Written are the names of LLaMA-Factory. The format has no ids for
calls: they are numbered.
Sources: the converters of LLaMA-Factory and the documentation of both programs.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tunesmith.datasets.json_text import decoded, to_text
from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.message_roles import standard_role

from .calls import CallIds, call_parts, calls_of, declarations, new_call
from .example import (
    Answers,
    Example,
    Message,
    NotConvertibleError,
    Written,
    as_conversation,
    divide,
    note,
    note_fields,
    plain_text,
    rest_of,
    split_system,
    tools_of,
)

__all__ = ["read", "write"]

_KNOWN: Final = ("conversations", "conversation", "system", "system_prompt", "tools")
_TURN: Final = ("from", "value", "role", "content", "weight")
_CALL_TURNS: Final = frozenset({"function_call", "tool_call"})
_CALL_TAG: Final = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESULT_TAG: Final = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
# What LLaMA-Factory writes between the results of several calls.
_RESULT_BORDER: Final = "\n</tool_response>\n<tool_response>\n"


def read(row: dict[str, Any]) -> Example:
    """Read a ShareGPT row; one with `chosen` and `rejected` is a preference."""
    name = "conversations" if "conversations" in row else "conversation"
    turns = decoded(row[name])
    ids, lost = CallIds(), list[str]()
    system = row.get("system") or row.get("system_prompt")
    messages: list[Message] = []
    if isinstance(system, str) and system:
        messages.append({"role": "system", "content": system})
    tagged = any(map(_is_tagged, turns))
    for position, turn in enumerate(turns):
        messages += _messages_of(turn, f"$.{name}[{position}]", ids, tagged=tagged)
        if is_object(turn):
            note_fields(turn, _TURN, "turns", lost)
    tools = tools_of(row.get("tools"))
    if "chosen" in row and "rejected" in row:
        for answer in (row["chosen"], row["rejected"]):
            note_fields(answer if is_object(answer) else {}, _TURN, "turns", lost)
        answers = Answers(
            _messages_of(row["chosen"], "$.chosen", ids),
            _messages_of(row["rejected"], "$.rejected", ids),
        )
        rest = rest_of(row, (*_KNOWN, "chosen", "rejected"))
        return Example("preference", messages, tools, answers, rest=rest, lost=lost)
    label = next((it for key in ("label", "kto_tag") if isinstance(it := row.get(key), bool)), None)
    if label is not None:
        divide(messages)
        rest = rest_of(row, (*_KNOWN, "label", "kto_tag"))
        return Example("labelled", messages, tools, label=label, rest=rest, lost=lost)
    return Example("conversation", messages, tools, rest=rest_of(row, _KNOWN), lost=lost)


def _is_tagged(turn: Any) -> bool:
    return is_object(turn) and "<tool_response>" in str(turn.get("value", turn.get("content")))


def _messages_of(turn: Any, path: str, ids: CallIds, *, tagged: bool = False) -> list[Message]:
    if not is_object(turn):
        raise NotConvertibleError("it is no turn with 'from' and 'value'", path)
    speaker = turn.get("from", turn.get("role"))
    value = turn.get("value", turn.get("content"))
    if value is None or not isinstance(speaker, str):
        raise NotConvertibleError("it has no 'from' or no 'value'", path)
    text = to_text(value)
    if speaker in _CALL_TURNS:
        return [_call_message("", [text], ids, path)]
    role = standard_role(speaker)
    if role == "assistant" and tagged and _CALL_TAG.search(text):
        rest = _CALL_TAG.sub("", text).strip()
        return [_call_message(rest, _CALL_TAG.findall(text), ids, path)]
    if role in {"tool", "function"}:
        return _results(text, ids, path)
    if role not in {"system", "user", "assistant"}:
        raise NotConvertibleError(f"the speaker {speaker!r} is not known", f"{path}.from")
    message: Message = {"role": role, "content": text}
    if role == "assistant" and turn.get("weight") is not None:
        message["weight"] = turn["weight"]
    return [message]


def _call_message(text: str, calls: list[str], ids: CallIds, path: str) -> Message:
    found: list[Any] = []
    for call in calls:
        value = decoded(call.strip())
        found += value if is_array(value) else [value]
    if not all(map(is_object, found)) or not found:
        raise NotConvertibleError("it is not a call as JSON", f"{path}.value")
    ids.unanswered.clear()
    tool_calls = [
        new_call(ids, call.get("name"), call.get("arguments", call.get("parameters")))
        for call in found
    ]
    return {"role": "assistant", "content": text or None, "tool_calls": tool_calls}


def _results(text: str, ids: CallIds, path: str) -> list[Message]:
    """Return a tool message for each result that a turn holds."""
    results = [text]
    if len(ids.unanswered) > 1 or "<tool_response>" in text:
        results = _divided(text, len(ids.unanswered))
    try:
        return [
            {"role": "tool", "tool_call_id": ids.answered(), "content": result}
            for result in results
        ]
    except NotConvertibleError as error:
        raise NotConvertibleError(str(error), path) from None


def _divided(text: str, calls: int) -> list[str]:
    if tagged := _RESULT_TAG.findall(text):
        return [result.strip() for result in tagged]
    if _RESULT_BORDER in text:
        return text.split(_RESULT_BORDER)
    listed = decoded(text)
    if is_array(listed) and len(listed) == calls:
        return [to_text(result) for result in listed]
    return [text]


def write(example: Example) -> Written:
    """Write a ShareGPT row."""
    if example.answers is not None or example.kind == "labelled":
        messages, lost = example.messages, list[str]()
    else:
        messages, lost = as_conversation(example)
        lost = list(lost)
    system, turns = split_system(messages, lost)
    row: dict[str, Any] = {"conversations": _turns(turns, lost)}
    if example.answers is not None:
        for name, answer in zip(("chosen", "rejected"), example.answers, strict=True):
            if len(answer) != 1:
                raise NotConvertibleError("an answer is more than one message", f"$.{name}")
            (row[name],) = _turns(answer, lost)
    if example.label is not None:
        row["label"] = example.label
    if system:
        row["system"] = system
    if example.tools:
        row["tools"] = json.dumps(declarations(example.tools), ensure_ascii=False)
    return Written([row], [*lost, *(f"'{name}'" for name in example.fields)])


def _turns(messages: list[Message], lost: list[str]) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for position, message in enumerate(messages):
        text = plain_text(message, f"$.messages[{position}]", lost)
        role = message["role"]
        if calls := calls_of(message):
            if text.strip():
                note(lost, "text beside calls of tools")
            written = [_written_call(call) for call in calls]
            value = to_text(written[0] if len(written) == 1 else written)
            turns.append({"from": "function_call", "value": value})
        elif role in {"tool", "function"}:
            if turns and turns[-1]["from"] == "observation":
                turns[-1]["value"] += _RESULT_BORDER + text
            else:
                turns.append({"from": "observation", "value": text})
        else:
            speaker = {"user": "human", "assistant": "gpt"}.get(role, "system")
            turns.append({"from": speaker, "value": text})
    return turns


def _written_call(call: Message) -> dict[str, Any]:
    _, name, arguments = call_parts(call)
    return {"name": name, "arguments": arguments}
