"""Tools in a conversation for a chat template that knows none: written as text.

The definitions go into the system message, a call into the text of the turn that makes it, a
result into a user's turn. Serving and training both use it, so a model is trained on what it
is served. Knows no template, no tokenizer and no HTTP.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CALL_END", "CALL_START", "knows_tools", "with_tools_as_text"]

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


def knows_tools(template: str) -> bool:
    """Return True if a chat template writes tools itself."""
    return "tools" in template


def with_tools_as_text(
    messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None
) -> list[dict[str, Any]]:
    """Return a conversation that says with text alone what tools and calls say.

    Args:
        messages: Messages with `role` and `content`; they are not changed.
        tools: Definitions as in the API, or None.
    """
    written = [_as_text(message) for message in messages]
    if not tools:
        return written
    definitions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = _INSTRUCTIONS.format(definitions=definitions, start=CALL_START, end=CALL_END)
    if written and written[0].get("role") in {"system", "developer"}:
        first = written[0]
        if content := _text(first):
            text = f"{content}\n\n{text}"
        return [{**first, "content": text}, *written[1:]]
    return [{"role": "system", "content": text}, *written]


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("role") in {"tool", "function"}:
        content = f"{_RESULT_START}\n{_text(message)}\n{_RESULT_END}"
        return {"role": "user", "content": content}
    calls = message.get("tool_calls")
    if not calls:
        return message
    parts = [text] if (text := _text(message)) else []
    parts += [f"{CALL_START}\n{_call(call['function'])}\n{CALL_END}" for call in calls]
    kept = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**kept, "content": "\n".join(parts)}


def _text(message: dict[str, Any]) -> str:
    """Return a message's content, which is text, a list of parts with text, or absent."""
    content: Any = message.get("content") or ""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return str(content)


def _call(function: dict[str, Any]) -> str:
    """Return a call as JSON; its arguments may be JSON text or an object."""
    arguments: Any = function.get("arguments") or {}
    if isinstance(arguments, str):
        # What is no JSON stays as it was written: the model would have written it so.
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    return json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
