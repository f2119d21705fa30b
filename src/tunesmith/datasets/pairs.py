"""Prompts and completions as text, from rows of any format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from .rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    AnyRow: TypeAlias = Row | Mapping[str, Any]

__all__ = ["Pair", "as_rows", "completion_text", "pairs", "prompt_text"]


class Pair(NamedTuple):
    """A prompt, its completion, and their line."""

    prompt: str
    completion: str
    line: int


def as_rows(rows: Iterable[AnyRow]) -> Iterator[Row]:
    """Yield rows with their locations; a mapping gets its number, counted from 1, as its line."""
    for number, row in enumerate(rows, 1):
        yield row if isinstance(row, Row) else Row(dict(row), number)


def pairs(rows: Iterable[AnyRow]) -> Iterator[Pair]:
    """Yield the prompt/completion rows; a row without two strings is left out."""
    for row in as_rows(rows):
        prompt, completion = row.value.get("prompt"), row.value.get("completion")
        if isinstance(prompt, str) and isinstance(completion, str):
            yield Pair(prompt, completion, row.line)


def prompt_text(value: Mapping[str, Any]) -> str:
    """Return the input of the model as one text, for a row of any format."""
    if isinstance(prompt := value.get("prompt"), str):
        return prompt
    preference_input = value.get("input")
    row = cast("dict[str, Any]", preference_input) if isinstance(preference_input, dict) else value
    messages = row.get("messages")
    return "\n".join(
        _content(message) for message in _objects(messages) if message.get("role") != "assistant"
    )


def completion_text(value: Mapping[str, Any]) -> str:
    """Return the text to learn, for a row of any format; of a chat, the last assistant message."""
    if isinstance(completion := value.get("completion"), str):
        return completion
    messages = _objects(value.get("preferred_output") or value.get("messages"))
    texts = [_content(message) for message in messages if message.get("role") == "assistant"]
    return texts[-1] if texts else ""


def _objects(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    items: list[Any] = value  # pyright: ignore[reportUnknownVariableType] # JSON
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in _objects(content))
    return "\n".join(text for text in texts if isinstance(text, str))
