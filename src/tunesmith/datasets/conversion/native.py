"""The four row formats that services train on; see `tunesmith.datasets.rows`."""

from __future__ import annotations

from typing import Any, Final

from tunesmith.datasets.json_text import decoded
from tunesmith.datasets.json_types import is_object

from .example import (
    Answers,
    Example,
    NotConvertibleError,
    Written,
    as_conversation,
    as_pair,
    as_prompt,
    messages_of,
    note,
    rest_of,
    tools_of,
)

__all__ = [
    "read_chat",
    "read_preference",
    "read_prompt_completion",
    "read_reinforcement",
    "write_chat",
    "write_preference",
    "write_prompt_completion",
    "write_reinforcement",
]

_CHAT_KEYS: Final = ("messages", "tools", "functions")


def read_chat(row: dict[str, Any]) -> Example:
    """Read a chat row."""
    tools = row.get("tools") or row.get("functions")
    fields = {name: row[name] for name in ("parallel_tool_calls",) if row.get(name) is not None}
    return Example(
        "conversation",
        messages_of(row.get("messages"), "$.messages", tools),
        tools_of(tools),
        fields=fields,
        rest=rest_of(row, [*_CHAT_KEYS, *fields]),
    )


def write_chat(example: Example) -> Written:
    """Write a chat row."""
    messages, lost = as_conversation(example)
    return Written([_with_tools({"messages": messages}, example)], lost)


def _with_tools(row: dict[str, Any], example: Example) -> dict[str, Any]:
    if example.tools:
        row["tools"] = example.tools
    return {**row, **example.fields}


def read_reinforcement(row: dict[str, Any]) -> Example:
    """Read a reinforcement row; its other keys stay with it."""
    example = read_chat(row)
    example.kind = "prompt"
    return example


def write_reinforcement(example: Example) -> Written:
    """Write a reinforcement row: the conversation up to the answer, and all other fields."""
    messages, lost = as_prompt(example)
    row = _with_tools({"messages": messages}, example)
    return Written([{**row, **example.rest}], lost)


def read_preference(row: dict[str, Any]) -> Example:
    """Read a preference row."""
    given = decoded(row.get("input"))
    if not is_object(given):
        raise NotConvertibleError("it is not an object", "$.input")
    example = read_chat(given)
    example.kind = "preference"
    example.answers = Answers(
        messages_of(row.get("preferred_output"), "$.preferred_output"),
        messages_of(row.get("non_preferred_output"), "$.non_preferred_output"),
    )
    example.rest |= rest_of(row, ("input", "preferred_output", "non_preferred_output"))
    return example


def write_preference(example: Example) -> Written:
    """Write a preference row."""
    if example.answers is None:
        raise NotConvertibleError("it has one answer, and a preference needs two")
    row = {
        "input": _with_tools({"messages": example.messages}, example),
        "preferred_output": example.answers.chosen,
        "non_preferred_output": example.answers.rejected,
    }
    return Written([row], [])


def read_prompt_completion(row: dict[str, Any]) -> Example:
    """Read a prompt/completion row as one question and one answer."""
    texts: list[str] = []
    for name in ("prompt", "completion"):
        text = row.get(name)
        if not isinstance(text, str):
            raise NotConvertibleError(f"{name!r} is not a text", f"$.{name}")
        texts.append(text)
    messages = [{"role": "assistant", "content": texts[1]}]
    if texts[0]:
        messages.insert(0, {"role": "user", "content": texts[0]})
    return Example("conversation", messages, rest=rest_of(row, ("prompt", "completion")))


def write_prompt_completion(example: Example) -> Written:
    """Write a prompt/completion row."""
    system, question, answer, lost = as_pair(example)
    if system:
        note(lost, "the system message")
    return Written([{"prompt": question, "completion": answer}], lost)
