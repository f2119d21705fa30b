"""Rules of a prompt/completion row: two strings, the completion not empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .problem import Problem, describe, unknown_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FIELDS", "problems"]

FIELDS: Final = frozenset({"prompt", "completion"})


def problems(value: dict[str, Any]) -> Iterator[Problem]:
    """Yield every problem of a prompt/completion row."""
    for name in ("prompt", "completion"):
        if name not in value:
            yield Problem("missing-field", f"$.{name}", _missing(name, value))
        elif not isinstance(value[name], str):
            yield Problem(
                "field-type",
                f"$.{name}",
                f"{name!r} must be a string, not {describe(value[name])}",
            )
    completion = value.get("completion")
    if isinstance(completion, str) and not completion.strip():
        yield Problem(
            "completion-empty",
            "$.completion",
            "the completion is empty" if not completion else "the completion is only white space",
        )
    if value.keys() != FIELDS:
        yield from unknown_fields(value, FIELDS, "$")


def _missing(name: str, value: dict[str, Any]) -> str:
    for key in value:
        if key.lower().strip() == name:
            return f"no field {name!r} (there is {key!r}: the name must be in lower case)"
    return f"no field {name!r}"
