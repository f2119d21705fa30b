"""The old SDK's answers: dictionaries whose keys are attributes too."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["OpenAIObject", "convert"]


class OpenAIObject(dict[str, Any]):
    """A JSON object of an answer: `answer["choices"][0]["text"]` and `answer.choices[0].text`.

    Nothing is validated: what the server sent is what is there.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "none"
            raise AttributeError(f"This object has no {name!r}; its fields are: {known}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary; the objects in it stay what they are."""
        return dict(self)

    def to_dict_recursive(self) -> dict[str, Any]:
        """Return plain dictionaries and lists all the way down."""
        return {name: _plain(value) for name, value in self.items()}

    def __str__(self) -> str:
        return json.dumps(self, indent=2, ensure_ascii=False)

    def __repr__(self) -> str:
        kind = f" {self['object']}" if isinstance(self.get("object"), str) else ""
        name = f" id={self['id']}" if isinstance(self.get("id"), str) else ""
        return f"<{type(self).__name__}{kind}{name}> JSON: {self}"


def convert(value: Any) -> Any:
    """Return JSON data with every object in it as an `OpenAIObject`."""
    if isinstance(value, dict):
        return OpenAIObject({name: convert(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return [convert(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, OpenAIObject):
        return value.to_dict_recursive()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
