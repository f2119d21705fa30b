"""Gemini's contents: `systemInstruction`, `contents` with `parts`, `tools` of declarations.

The assistant is called `model`; calls are `functionCall` parts and results `functionResponse`
parts of the user. Results are objects: a text that is none stands in `output`. Schemas name their
types in capitals.
"""

from __future__ import annotations

from typing import Any, Final

from tunesmith.datasets.json_text import decoded, to_text
from tunesmith.datasets.json_types import is_array, is_object

from .anthropic import DATA_URL
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

__all__ = ["read", "write"]

_SYSTEM: Final = ("systemInstruction", "system_instruction")
_OUTPUT: Final = "output"
_PARTS: Final = (
    "text",
    "thought",
    "functionCall",
    "function_call",
    "functionResponse",
    "function_response",
    "inlineData",
    "inline_data",
    "fileData",
    "file_data",
)


def read(row: dict[str, Any]) -> Example:
    """Read a Gemini row."""
    ids = CallIds()
    lost: list[str] = []
    systems = (_system_text(row.get(name), f"$.{name}") for name in _SYSTEM)
    messages: list[Message] = [{"role": "system", "content": text} for text in systems if text]
    for position, content in enumerate(decoded(row["contents"])):
        messages += _messages_of(content, f"$.contents[{position}]", ids, lost)
    messages = messages_of(messages, "$.contents")
    tools = _tools(row.get("tools"))
    rest = rest_of(row, (*_SYSTEM, "contents", "tools"))
    return Example("conversation", messages, tools, rest=rest, lost=lost)


def _system_text(value: Any, path: str) -> str:
    found = decoded(value)
    if isinstance(value, str) and not (is_object(found) and "parts" in found):
        return value
    parts = found.get("parts") if is_object(found) else None
    parts = [parts] if is_object(parts) else parts
    texts: list[str] = []
    for part in parts if is_array(parts) else []:
        text = part.get("text") if is_object(part) else None
        if not isinstance(text, str):
            raise NotConvertibleError("it is not only text", path)
        texts.append(text)
    return "\n".join(texts)


def _messages_of(content: Any, path: str, ids: CallIds, lost: list[str]) -> list[Message]:
    parts = content.get("parts") if is_object(content) else None
    parts = [parts] if is_object(parts) else parts
    if not is_array(parts):
        raise NotConvertibleError("it has no 'parts'", path)
    note_fields(content, ("role", "parts"), "contents", lost)
    role = "assistant" if content.get("role") == "model" else "user"
    own: list[Message] = []
    calls: list[Message] = []
    results: list[Message] = []
    for position, part in enumerate(parts):
        part_path = f"{path}.parts[{position}]"
        if not is_object(part):
            raise NotConvertibleError("it is no part", part_path)
        call = part.get("functionCall", part.get("function_call"))
        result = part.get("functionResponse", part.get("function_response"))
        note_fields(part, _PARTS, "parts", lost)
        if is_object(call):
            calls.append(new_call(ids, call.get("name"), call.get("args"), call.get("id")))
        if is_object(result):
            results.append(_result(result, ids))
        if part.get("thought"):
            note(lost, "thoughts")
        elif not is_object(call) and not is_object(result):
            own.append(_part(part, part_path))
        elif isinstance(part.get("text"), str) and part["text"].strip():
            own.append({"type": "text", "text": part["text"]})
    if not own and not calls:
        return results
    plain = len(own) == 1 and own[0]["type"] == "text"
    message: Message = {"role": role, "content": own[0]["text"] if plain else own or None}
    return [*results, {**message, "tool_calls": calls} if calls else message]


def _result(result: Message, ids: CallIds) -> Message:
    response = result.get("response")
    if is_object(response) and response.keys() == {_OUTPUT}:
        response = response[_OUTPUT]
    identifier = ids.answered(result.get("name"), result.get("id"))
    return {"role": "tool", "tool_call_id": identifier, "content": to_text(response)}


def _part(part: Message, path: str) -> Message:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    data = part.get("inlineData", part.get("inline_data"))
    if is_object(data):
        kind = data.get("mimeType", data.get("mime_type"))
        return _image(kind, f"data:{kind};base64,{data.get('data')}", path)
    file = part.get("fileData", part.get("file_data"))
    if is_object(file):
        uri = file.get("fileUri", file.get("file_uri"))
        return _image(file.get("mimeType", file.get("mime_type")), uri, path)
    raise NotConvertibleError(f"a part with {', '.join(part)} has no counterpart", path)


def _image(kind: Any, url: Any, path: str) -> Message:
    if not isinstance(kind, str) or not kind.startswith("image/"):
        raise NotConvertibleError(f"a file of type {kind!r} has no counterpart", path)
    return {"type": "image_url", "image_url": {"url": url}}


def _tools(value: Any) -> list[Any] | None:
    found = decoded(value)
    found = [found] if is_object(found) else found
    tools: list[Any] = []
    for holder in found if is_array(found) else []:
        names = ("functionDeclarations", "function_declarations")
        functions = next((holder[name] for name in names if name in holder), None)
        if not is_array(functions):
            raise NotConvertibleError("it declares no functions", "$.tools")
        for function in functions:
            parameters = _schema(function.get("parameters"), str.lower)
            written = {**function, **({"parameters": parameters} if parameters else {})}
            tools.append({"type": "function", "function": written})
    return tools or None


def _schema(value: Any, case: Any) -> Any:
    """Return a JSON schema with its types in the given case."""
    if is_array(value):
        return [_schema(item, case) for item in value]
    if not is_object(value):
        return value
    return {
        name: case(item) if name == "type" and isinstance(item, str) else _schema(item, case)
        for name, item in value.items()
    }


def write(example: Example) -> Written:
    """Write a Gemini row."""
    messages, found = as_conversation(example)
    lost = list(found)
    system, turns = split_system(messages, lost)
    names: dict[str, str] = {}
    contents: list[Message] = []
    results: list[Message] = []
    for position, message in enumerate(turns):
        path = f"$.messages[{position}]"
        if message["role"] == "tool":
            results.append(_written_result(message, names, path, lost))
            continue
        if results and message["role"] != "user":
            contents.append({"role": "user", "parts": results})
            results = []
        parts = [*results, *_parts(message, names, path, lost)]
        results = []
        role = "model" if message["role"] == "assistant" else "user"
        contents.append({"role": role, "parts": parts})
    if results:
        contents.append({"role": "user", "parts": results})
    row: dict[str, Any] = {}
    if system:
        row["systemInstruction"] = {"parts": [{"text": system}]}
    row["contents"] = contents
    if example.tools:
        functions = [
            {
                name: _schema(item, str.upper) if name == "parameters" else item
                for name, item in function.items()
            }
            for function in declarations(example.tools)
        ]
        row["tools"] = [{"functionDeclarations": functions}]
    return Written([row], [*lost, *(f"'{name}'" for name in example.fields)])


def _written_result(message: Message, names: dict[str, str], path: str, lost: list[str]) -> Message:
    text = plain_text(message, path, lost)
    name = names.get(str(message.get("tool_call_id")))
    if name is None:
        raise NotConvertibleError("the result of a tool answers no call before it", path)
    response = decoded(text)
    if not is_object(response) or response.keys() == {_OUTPUT}:
        response = {_OUTPUT: text}
    return {"functionResponse": {"name": name, "response": response}}


def _parts(message: Message, names: dict[str, str], path: str, lost: list[str]) -> list[Message]:
    if message["role"] not in {"user", "assistant"}:
        raise NotConvertibleError(f"it has no {message['role']} message there", f"{path}.role")
    plain_text({**message, "content": None}, path, lost)
    content = message.get("content")
    found = content if is_array(content) else [{"type": "text", "text": content}]
    parts = [_written_part(part, path, lost) for part in found] if content else []
    for call in calls_of(message):
        identifier, name, arguments = call_parts(call)
        names[identifier] = name
        parts.append({"functionCall": {"name": name, "args": arguments}})
    return parts or [{"text": ""}]


def _written_part(part: Any, path: str, lost: list[str]) -> Message:
    if is_object(part) and part.get("type") == "image_url" and is_object(part.get("image_url")):
        image = part["image_url"]
        if image.get("detail"):
            note(lost, "'detail' of images")
        if found := DATA_URL.match(str(image.get("url"))):
            return {"inlineData": {"mimeType": found["type"], "data": found["data"]}}
        raise NotConvertibleError("the type of an image behind an address is not known", path)
    return {"text": plain_text({"content": [part]}, path, lost)}
