"""Templates: the texts of a row made of its columns.

`{column}` stands for the text of a column, `{{` and `}}` for braces. A template for user and
assistant, and perhaps system, makes chat rows; one for prompt and completion makes such rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.json_text import to_text

from .example import NotConvertibleError, Written, rest_of
from .source import ConvertedRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.datasets.readers.batch import Source

__all__ = ["Template", "templated"]

_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_CHAT: Final = ("system", "user", "assistant")
_PAIR: Final = ("prompt", "completion")


def templated(source: Source, texts: Mapping[str, str]) -> ConvertedRows:
    """Return the rows that a template makes of the rows of a source.

    Raises:
        DatasetError: The template has a fault; see `Template`.
    """
    return ConvertedRows(source, Template(texts).convert)


class Template:
    """The texts of a row, each with places for columns.

    Args:
        texts: Templates for "user" and "assistant", perhaps "system"; or for "prompt" and
            "completion".

    Attributes:
        target: The row format that it makes, "chat" or "prompt_completion".
        columns: The columns that it uses.

    Raises:
        DatasetError: These are other names, one is missing, or braces do not match.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        names = set(texts)
        if names == set(_PAIR):
            target = "prompt_completion"
        elif {"user", "assistant"} <= names <= set(_CHAT):
            target = "chat"
        else:
            raise DatasetError(
                "A template has texts for 'user' and 'assistant', and perhaps 'system', or for "
                f"'prompt' and 'completion'; not for {', '.join(map(repr, texts)) or 'nothing'}."
            )
        self.target: str = target
        self._texts = {name: texts[name] for name in (*_CHAT, *_PAIR) if name in texts}
        self.columns: tuple[str, ...] = tuple(
            dict.fromkeys(name for text in self._texts.values() for name in _columns(text))
        )

    def __repr__(self) -> str:
        return f"Template({self._texts!r})"

    def convert(self, row: dict[str, Any]) -> Written:
        """Return the row that the template makes, and the columns that it does not use.

        Raises:
            NotConvertibleError: A column is missing, or there would be no answer.
        """
        missing = [name for name in self.columns if name not in row]
        if missing:
            columns = ", ".join(map(repr, row)) or "none"
            raise NotConvertibleError(f"there is no column {missing[0]!r}; there are {columns}")
        texts = {name: _filled(text, row) for name, text in self._texts.items()}
        answer = "assistant" if self.target == "chat" else "completion"
        if not texts[answer].strip():
            raise NotConvertibleError(f"the text for {answer!r} is empty")
        lost = [f"'{name}'" for name in rest_of(row, self.columns)]
        if self.target == "prompt_completion":
            return Written([texts], lost)
        messages = [
            {"role": role, "content": text}
            for role, text in texts.items()
            if text.strip() or role == "user"
        ]
        return Written([{"messages": messages}], lost)


def _columns(text: str) -> list[str]:
    names: list[str] = []
    for match in _PLACE.finditer(text):
        if match[0] in {"{", "}"}:
            raise DatasetError(
                f"The template {text!r} has a brace at character {match.start() + 1} without its "
                "other one: a column stands in {braces}, a brace itself is written twice."
            )
        if match[1]:
            names.append(match[1])
    return names


def _filled(text: str, row: Mapping[str, Any]) -> str:
    def content(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = row[match[1]]
        return "" if value is None else to_text(value)

    return _PLACE.sub(content, text)
