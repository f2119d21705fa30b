"""What a chat template writes in its own words, and conversations in the form that it takes.

Which abilities a template has is found out by trying it. What it cannot say (calls, results,
definitions of tools) is written as text instead. Of replies and their ends it knows nothing.
"""

from __future__ import annotations

import hashlib
import json
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.tool_messages import calls_as_text, results_as_text, with_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CALL",
    "MARK",
    "QUESTION",
    "TOOL",
    "Abilities",
    "TemplateError",
    "find_abilities",
    "in_its_form",
]

_SHORT_ID = 9  # characters, in the templates of Mistral
_ID_CHARACTERS = string.digits + string.ascii_letters

# What templates are tried with.
MARK = "marked-content-7"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "Probe.",
        "parameters": {
            "type": "object",
            "properties": {"probe_key": {"type": "string", "description": "Key."}},
            "required": ["probe_key"],
        },
    },
}
QUESTION: dict[str, Any] = {"role": "user", "content": "question"}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call_probe",
            "type": "function",
            "function": {"name": "probe_tool", "arguments": {"probe_key": "probe_value"}},
        }
    ],
}
_RESULT: dict[str, Any] = {
    "role": "tool",
    "tool_call_id": "call_probe",
    "name": "probe_tool",
    "content": MARK,
}


class TemplateError(ValueError):
    """A chat template cannot write a conversation; the text says why."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a template writes in its own words.

    Attributes:
        system: Messages of the system.
        definitions: Definitions of tools.
        calls: Calls of tools.
        results: Results of calls.
        arguments_as_text: Whether it wants the arguments of calls as JSON text.
        content_of_calls: What it wants as the content of a message that only calls.
        short_ids: Whether it demands ids of calls of nine letters and digits.
    """

    system: bool = True
    definitions: bool = True
    calls: bool = True
    results: bool = True
    arguments_as_text: bool = False
    content_of_calls: str | None = ""
    short_ids: bool = False


def in_its_form(
    can: Abilities,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Return messages and tools as a template with these abilities takes them."""
    written = list(messages)
    if not can.calls:
        written = [calls_as_text(message) for message in written]
    else:
        written = [_own_form(can, message) for message in written]
    if not can.results:
        written = results_as_text(written)
    if tools and not can.definitions:
        return with_definitions(written, tools, "system" if can.system else "user"), None
    return written, list(tools) if tools else None


def _own_form(can: Abilities, message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with its calls in the form that the template takes."""
    result = dict(message)
    if can.short_ids and "tool_call_id" in message:
        result["tool_call_id"] = _short_id(message["tool_call_id"])
    if not message.get("tool_calls"):
        return result
    result["content"] = message["content"] or can.content_of_calls
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        if can.arguments_as_text:
            arguments = json.dumps(arguments, ensure_ascii=False)
        identity = _short_id(call["id"]) if can.short_ids else call["id"]
        function = {**call["function"], "arguments": arguments}
        calls.append({**call, "id": identity, "function": function})
    result["tool_calls"] = calls
    return result


def _short_id(identity: str | None) -> str:
    """Return an id of nine letters and digits that stands for an id."""
    text = identity or ""
    if len(text) == _SHORT_ID and text.isascii() and text.isalnum():
        return text
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    characters = []
    for _ in range(_SHORT_ID):
        number, digit = divmod(number, len(_ID_CHARACTERS))
        characters.append(_ID_CHARACTERS[digit])
    return "".join(characters)


def find_abilities(
    render: Callable[[Sequence[dict[str, Any]], list[dict[str, Any]] | None], str],
) -> Abilities:
    """Find out what a template writes in its own words, by trying.

    Args:
        render: Renders messages and tools as they are, up to where a reply begins; raises
            `TemplateError` for what the template rejects.
    """

    def writes(
        messages: list[dict[str, Any]], expected: str, tools: Any = None, **form: Any
    ) -> bool:
        """Return whether the template writes something, given messages in a form."""
        try:
            text = render(*in_its_form(Abilities(**form), messages, tools))
        except TemplateError:
            return False
        # Arguments that were text and have been written as a JSON string are quoted twice.
        return expected in text and '\\"probe_key' not in text

    system = writes([{"role": "system", "content": MARK}, QUESTION], MARK)
    definitions = writes([QUESTION], "probe_tool", [TOOL])
    tools = [TOOL] if definitions else None
    found = Abilities(system=system, definitions=definitions, calls=False, results=False)
    for short_ids in (False, True):
        for as_text in (False, True):
            for content in ("", None):
                form: dict[str, Any] = {
                    "arguments_as_text": as_text,
                    "content_of_calls": content,
                    "short_ids": short_ids,
                }
                conversation = [QUESTION, CALL]
                if writes(conversation, "probe_value", tools, **form):
                    results = writes([*conversation, _RESULT], MARK, tools, **form)
                    return replace(found, calls=True, results=results, **form)
    return found
