"""Templates of graders: `{{ item.answer }}`, `{{ sample.output_tools[0].function.name }}`.

There is nothing but paths in them: no expressions, no filters. What a path finds is inserted as it
is and never read as a template again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["MissingVariableError", "Template", "TemplateError"]

SAMPLE_VARIABLES = ("output_text", "output_json", "output_tools", "choices", "output_audio")
_STEP = re.compile(
    r"""\s*(?:\.\s*(?P<name>[^\s.\[\]{}()|"']+)|\[\s*(?:(?P<index>\d{1,9})|"(?P<key>[^"]*)"|'(?P<key2>[^']*)')\s*\])"""
)
_NAMESPACE = re.compile(r"\s*(\w+)")


class TemplateError(ValueError):
    """A template that is none; the message says where and why."""


class MissingVariableError(LookupError):
    """What a path names is not there.

    Args:
        path: The path as the template has it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class _Path:
    text: str
    steps: tuple[str | int, ...]

    def find(self, values: Mapping[str, Any]) -> Any:
        found: Any = values
        for step in self.steps:
            if isinstance(found, Mapping) and str(step) in found:
                found = cast("Mapping[str, Any]", found)[str(step)]
            elif isinstance(found, list) and str(step).isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise MissingVariableError(self.text)
        return found


@dataclass(frozen=True, slots=True)
class Template:
    """A text with paths in it, in pieces."""

    pieces: tuple[str | _Path, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Return the template of a text.

        Raises:
            TemplateError: A pair of double braces holds no path.
        """
        pieces: list[str | _Path] = []
        end = 0
        while (begin := text.find("{{", end)) >= 0 and (stop := text.find("}}", begin)) >= 0:
            pieces.extend((text[end:begin], _path(text[begin + 2 : stop])))
            end = stop + 2
        pieces.append(text[end:])
        return cls(tuple(pieces))

    def render(self, sample: Mapping[str, Any], item: Any) -> str:
        """Return the text with what its paths find; texts as they are, everything else as JSON.

        Raises:
            MissingVariableError: A path leads nowhere.
        """
        values = {"sample": sample, "item": item}
        return "".join(
            piece if isinstance(piece, str) else _shown(piece.find(values)) for piece in self.pieces
        )


def _path(text: str) -> _Path:
    shown = text.strip()
    begin = _NAMESPACE.match(text)
    if begin is None or begin[1] not in {"item", "sample"}:
        raise TemplateError(
            f"{{{{ {shown:.60} }}}} must name item.… or sample.…, such as {{{{ item.answer }}}} or "
            "{{ sample.output_text }}."
        )
    steps: list[str | int] = [begin[1]]
    position = begin.end()
    while (step := _STEP.match(text, position)) is not None:
        position = step.end()
        if step["index"] is not None:
            steps.append(int(step["index"]))
        else:
            steps.append(next(one for one in step.group("name", "key", "key2") if one is not None))
    if text[position:].strip() or len(steps) == 1:
        raise TemplateError(
            f"{{{{ {shown:.60} }}}} is no path. Paths have names after dots and numbers in "
            "brackets: {{ item.answers[0].text }}."
        )
    if steps[0] == "sample" and steps[1] not in SAMPLE_VARIABLES:
        raise TemplateError(
            f"sample has no {steps[1]!r:.60}; it has {', '.join(SAMPLE_VARIABLES)}."
        )
    return _Path(shown, tuple(steps))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
