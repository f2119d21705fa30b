"""Anthropic's messages: a top-level `system`, content in blocks, `input_schema` of tools.

Calls are `tool_use` blocks of the assistant, and their results `tool_result` blocks of the user.
Bedrock's fine-tuning takes rows of this form.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tunesmith.datasets.json_text import decoded
from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.message_roles import standard_role

from .calls import CallIds, call_parts, calls_of, declarations, new_call
from .example import (
    Example,
    Message,
    NotConvertibleError,
    Written,
    as_conversation,
    messages_of,
    note,
    note_fields,
    plain_text,
    rest_of,
    split_system,
)

__all__ = ["DATA_URL", "read", "write"]

DATA_URL: Final = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)
_BLOCKS: Final = (
    "type",
    "text",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "is_error",
    "source",
)
_THINKING: Final = ("thinking", "redacted_thinking")


def read(row: dict[str, Any]) -> Example:
    """Read an Anthropic row."""
    ids, lost = CallIds(), list[str]()
    messages: list[Message] = []
    system = _joined(row.get("system"), "$.system")
    if system:
        messages.append({"role": "system", "content": system})
    for position, message in enumerate(decoded(row["messages"])):
        messages += _messages_of(message, f"$.messages[{position}]", ids, lost)
    known = ("messages", "system", "tools")
    messages = messages_of(messages, "$.messages")
    tools = _tools(row.get("tools"), lost)
    return Example("conversation", messages, tools, rest=rest_of(row, known), lost=lost)


def _joined(value: Any, path: str) -> str:
    """Return text blocks as one text; a text that holds other JSON is a text."""
    found = decoded(value)
    if isinstance(value, str) and not (
        is_array(found) and found and all(map(_is_text_block, found))
    ):
        return value
    if found is None:
        return ""
    texts: list[str] = []
    for block in found if is_array(found) else [found]:
        text = block.get("text") if is_object(block) else None
        if not isinstance(text, str):
            raise NotConvertibleError("it is not only text", path)
        texts.append(text)
    return "\n".join(texts)


def _is_text_block(block: Any) -> bool:
    return is_object(block) and isinstance(block.get("text"), str)


def _tools(value: Any, lost: list[str]) -> list[Any] | None:
    found = decoded(value)
    if not is_array(found) or not found:
        return None
    tools: list[Any] = []
    for position, tool in enumerate(found):
        if not is_object(tool) or not isinstance(tool.get("name"), str):
            raise NotConvertibleError("it is no tool with a name", f"$.tools[{position}]")
        note_fields(tool, ("type", "name", "description", "input_schema"), "tools", lost)
        function = {name: tool[name] for name in ("name", "description") if tool.get(name)}
        if "input_schema" in tool:
            function["parameters"] = tool["input_schema"]
        tools.append({"type": "function", "function": function})
    return tools


def _messages_of(message: Any, path: str, ids: CallIds, lost: list[str]) -> list[Message]:
    if not is_object(message) or not isinstance(message.get("role"), str):
        raise NotConvertibleError("it is not a message with a role", path)
    content = message.get("content")
    if not is_array(content):
        return [message]
    role = standard_role(message["role"])
    note_fields(message, ("role", "content"), "messages", lost)
    parts: list[Message] = []
    calls: list[Message] = []
    results: list[Message] = []
    for position, block in enumerate(content):
        block_path = f"{path}.content[{position}]"
        kind = block.get("type", "text") if is_object(block) else None
        if is_object(block) and kind not in _THINKING:
            note_fields(block, _BLOCKS, "blocks", lost)
        if kind == "tool_use":
            calls.append(new_call(ids, block.get("name"), block.get("input"), block.get("id")))
        elif kind == "tool_result":
            results.append(_result(block, block_path, lost))
        elif kind in _THINKING:
            note(lost, "thinking")
        elif part := _part(block, kind):
            parts.append(part)
        else:
            raise NotConvertibleError(f"a block of type {kind!r} has no counterpart", block_path)
    if not parts and not calls:
        return results
    own: Message = {"role": role, "content": _content(parts)}
    return [*results, {**own, "tool_calls": calls} if calls else own]


def _content(parts: list[Message]) -> Any:
    if not parts:
        return None
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _part(block: Any, kind: Any) -> Message | None:
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    source = block.get("source") if kind == "image" else None
    if not is_object(source):
        return None
    url = source.get("url")
    if source.get("type") == "base64":
        url = f"data:{source.get('media_type')};base64,{source.get('data')}"
    return {"type": "image_url", "image_url": {"url": url}} if isinstance(url, str) else None


def _result(block: Message, path: str, lost: list[str]) -> Message:
    if block.get("is_error"):
        note(lost, "'is_error' of tool results")
    content = _joined(block.get("content"), f"{path}.content")
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}


def write(example: Example) -> Written:
    """Write an Anthropic row."""
    messages, found = as_conversation(example)
    lost = list(found)
    system, turns = split_system(messages, lost)
    written: list[Message] = []
    results: list[Message] = []  # of the calls before; they open the next user message
    for position, message in enumerate(turns):
        path = f"$.messages[{position}]"
        if message["role"] == "tool":
            text = plain_text(message, path, lost)
            identifier = message.get("tool_call_id")
            results.append({"type": "tool_result", "tool_use_id": identifier, "content": text})
            continue
        if results and message["role"] != "user":
            written.append({"role": "user", "content": results})
            results = []
        blocks = [*results, *_blocks(message, path, lost)]
        results = []
        written.append({"role": message["role"], "content": _simple(blocks)})
    if results:
        written.append({"role": "user", "content": results})
    row: dict[str, Any] = {"system": system} if system else {}
    row["messages"] = written
    if example.tools:
        row["tools"] = [_written_tool(one) for one in declarations(example.tools)]
    return Written([row], [*lost, *(f"'{name}'" for name in example.fields)])


def _simple(blocks: list[Message]) -> Any:
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks


def _blocks(message: Message, path: str, lost: list[str]) -> list[Message]:
    if message["role"] not in {"user", "assistant"}:
        raise NotConvertibleError(f"it has no {message['role']} message there", f"{path}.role")
    content = message.get("content")
    plain_text({**message, "content": None}, path, lost)
    parts = content if is_array(content) else [{"type": "text", "text": content}]
    blocks = [_block(part, path, lost) for part in parts] if content else []
    for call in calls_of(message):
        identifier, name, arguments = call_parts(call)
        blocks.append({"type": "tool_use", "id": identifier, "name": name, "input": arguments})
    return blocks or [{"type": "text", "text": ""}]


def _block(part: Any, path: str, lost: list[str]) -> Message:
    if is_object(part) and part.get("type") == "image_url" and is_object(part.get("image_url")):
        image = part["image_url"]
        if image.get("detail"):
            note(lost, "'detail' of images")
        if found := DATA_URL.match(str(image.get("url"))):
            source = {"type": "base64", "media_type": found["type"], "data": found["data"]}
        else:
            source = {"type": "url", "url": image.get("url")}
        return {"type": "image", "source": source}
    text = plain_text({"content": [part]}, path, lost)
    return {"type": "text", "text": text}


def _written_tool(function: dict[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters", {"type": "object", "properties": {}})
    kept = {name: item for name, item in function.items() if name in {"name", "description"}}
    return {**kept, "input_schema": schema}
