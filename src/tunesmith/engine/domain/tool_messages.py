"""Tools in a conversation for a chat template that does not write them: written as text.

The definitions go into the system message, a call into the text of the turn that makes it, a
result into a user's turn. Serving and training both use it, so a model is trained on what it
is served. Knows no template, no tokenizer and no HTTP.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CALL_END", "CALL_START", "calls_as_text", "results_as_text", "with_definitions"]

CALL_START = "<tool_call>"
CALL_END = "</tool_call>"
_RESULT_START = "<tool_response>"
_RESULT_END = "</tool_response>"

_INSTRUCTIONS = """You can call functions to answer the user. These are available:
<tools>
{definitions}
</tools>
To call one, write its name and arguments as a JSON object, and nothing else:
{start}
{{"name": "...", "arguments": {{...}}}}
{end}"""


def with_definitions(
    messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], role: str = "system"
) -> list[dict[str, Any]]:
    """Return a conversation whose first message says which tools there are.

    Args:
        messages: Normalized messages; they are not changed.
        tools: The definitions.
        role: The role of the message that says it: "user" where there is no system message.
    """
    definitions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = _INSTRUCTIONS.format(definitions=definitions, start=CALL_START, end=CALL_END)
    if not messages or messages[0]["role"] != role:
        return [{"role": role, "content": text}, *messages]
    first = messages[0]
    before, after = (first["content"], text) if role == "system" else (text, first["content"])
    content = f"{before}\n\n{after}" if before and after else before or after
    return [{**first, "content": content}, *messages[1:]]


def calls_as_text(message: dict[str, Any]) -> dict[str, Any]:
    """Return a normalized message whose calls are part of its text."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    parts = [message["content"]] if message["content"] else []
    parts += [f"{CALL_START}\n{_call(call['function'])}\n{CALL_END}" for call in calls]
    kept = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**kept, "content": "\n".join(parts)}


def results_as_text(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return normalized messages in which a user's turn holds the results of calls.

    Results in a row are one turn: many templates demand that turns alternate.
    """
    written: list[dict[str, Any]] = []
    previous = ""
    for message in messages:
        if message["role"] != "tool":
            written.append(message)
        else:
            text = f"{_RESULT_START}\n{message['content']}\n{_RESULT_END}"
            if previous == "tool":
                written[-1] = {"role": "user", "content": f"{written[-1]['content']}\n{text}"}
            else:
                written.append({"role": "user", "content": text})
        previous = message["role"]
    return written


def _call(function: dict[str, Any]) -> str:
    """Return a call as JSON."""
    call = {"name": function["name"], "arguments": function["arguments"]}
    return json.dumps(call, ensure_ascii=False)
