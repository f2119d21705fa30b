"""Prompts and completions as text, from rows of any format; and a store of them on disk."""

from __future__ import annotations

import marshal
import tempfile
import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from .rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    AnyRow: TypeAlias = Row | Mapping[str, Any]

__all__ = ["Pair", "StoredPairs", "as_rows", "completion_text", "pairs", "prompt_text"]


class Pair(NamedTuple):
    """A prompt, its completion, and their line."""

    prompt: str
    completion: str
    line: int


_BATCH_ROWS: Final = 1024
_IN_MEMORY: Final = 1 << 23


class StoredPairs:
    """Prompt/completion rows that are read once, and can then be read again quickly.

    They are in memory while they are few and in a temporary file beyond that, so memory does not
    grow with the data. Lines are kept, other fields are not.

    Args:
        rows: The rows; one without two strings is left out.
    """

    def __init__(self, rows: Iterable[AnyRow]) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed below
        weakref.finalize(self, self._file.close)
        self._places: list[tuple[int, int]] = []
        found = pairs(rows)
        start = 0
        while batch := list(islice(found, _BATCH_ROWS)):
            # Not pickle: nothing is ever loaded that another process could have written.
            size = self._file.write(marshal.dumps(list(map(tuple, batch))))
            self._places.append((start, size))
            start += size

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs."""
        for start, size in self._places:
            self._file.seek(start)
            batch: list[tuple[str, str, int]] = marshal.loads(self._file.read(size))  # noqa: S302 - our own file
            yield from map(Pair._make, batch)

    def __iter__(self) -> Iterator[Row]:
        for prompt, completion, line in self.pairs():
            yield Row({"prompt": prompt, "completion": completion}, line)


def as_rows(rows: Iterable[AnyRow]) -> Iterator[Row]:
    """Yield rows with their locations; a mapping gets its number, counted from 1, as its line."""
    for number, row in enumerate(rows, 1):
        yield row if isinstance(row, Row) else Row(dict(row), number)


def pairs(rows: Iterable[AnyRow]) -> Iterator[Pair]:
    """Yield the prompt/completion rows; a row without two strings is left out."""
    if isinstance(rows, StoredPairs):
        yield from rows.pairs()
        return
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
