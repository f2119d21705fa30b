"""Names for the columns of a table: none is empty, none occurs twice, so that no cell is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tunesmith.datasets.findings import Fault, Location, excerpt_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["distinct", "header_faults"]

_SHOWN: Final = 5


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names, each but the first of equal ones with a number: `text`, `text (2)`."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        own = name
        while own in taken:
            counts[name] = counts.get(name, 1) + 1
            own = f"{name} ({counts[name]})"
        taken.add(own)
        found.append(own)
    return found


def header_faults(names: list[str], line: int, offset: int | None, text: str = "") -> list[Fault]:
    """Return a fault where a header names a column twice."""
    renamed = [own for name, own in zip(names, distinct(names), strict=True) if own != name]
    if not renamed:
        return []
    shown = ", ".join(map(repr, renamed[:_SHOWN])) + (", …" if len(renamed) > _SHOWN else "")
    message = f"a column is named more than once; the further ones are read as {shown}"
    location = Location(line, offset, message=message, excerpt=excerpt_of(text))
    return [Fault("table-header", location)]
