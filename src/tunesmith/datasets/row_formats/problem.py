"""`Problem`, and helpers that the rules of all row formats share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tunesmith.datasets.json_types import is_array

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Problem", "describe", "unknown_fields"]


class Problem(NamedTuple):
    """One problem of a row.

    Attributes:
        id: Id of the rule, a key of `datasets.rules.RULES`.
        path: JSON path of the value concerned; "" for the whole row.
        message: What is wrong, without the location.
    """

    id: str
    path: str
    message: str


def describe(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if is_array(value) else "an object"


def unknown_fields(value: dict[str, Any], known: frozenset[str], path: str) -> Iterator[Problem]:
    """Yield a problem for each key of `value` that is not known."""
    for key in value:
        if key not in known:
            yield Problem("unknown-field", f"{path}.{key}", f"unknown field {key!r}")
