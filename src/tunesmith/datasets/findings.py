"""Findings: what is wrong or worth knowing, where, and how often.

A `Fault` is one fault at one location, as a reader reports it. A `LocationCounter` counts faults
of one kind, keeps the first few locations and the total, and merges with the counter of the rows
that follow: merging is associative, so any split of a file gives the same sum. A `Finding` is
what the user sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from tunesmith._lazy import set_public_module

__all__ = ["UNLIMITED", "Fault", "Finding", "Location", "LocationCounter", "Severity", "excerpt_of"]

Severity: TypeAlias = Literal["error", "warning", "info"]

UNLIMITED: Final = 0
"""As `max_examples`: keep all locations."""

_EXCERPT_LENGTH: Final = 80


@dataclass(frozen=True, slots=True)
class Location:
    """A position in a data set.

    Attributes:
        line: Line, counted from 1; the number of the row where the source has no lines.
        byte_offset: Offset of the fault in the file: the exact byte where it is known, else
            where the row starts. None where the source has no bytes.
        path: JSON path within the row, such as `$.messages[2].content`; "" for the whole row.
        message: What is wrong there.
        excerpt: The text there, shortened.
        column: Character in the line, counted from 1, where it is known.
        file: Name of the file.
    """

    line: int
    byte_offset: int | None = None
    path: str = ""
    message: str = ""
    excerpt: str = ""
    column: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        """Return the location as text: `line 7, byte 1234`."""
        words = f"line {self.line}"
        if self.byte_offset is not None:
            words += f", byte {self.byte_offset}"
        return words

    def moved(self, lines: int) -> Location:
        """Return the location when `lines` lines are put before it."""
        return replace(self, line=self.line + lines) if lines else self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; unknown parts are left out, except `byte_offset` and `path`."""
        data: dict[str, Any] = {
            "line": self.line,
            "byte_offset": self.byte_offset,
            "path": self.path,
        }
        for name in ("message", "excerpt", "column", "file"):
            value = getattr(self, name)
            if value not in {"", None}:
                data[name] = value
        return data


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of kind `id` and where it is.

    Attributes:
        id: Id of the rule, see `rules`.
        location: Where it is.
        lost: Whether a row is left out because of it. Of several faults of one row only the first
            says so: the rows of a source are those that were read and those that were lost.
        count: How many lines in a row have it, the first one at `location`.
    """

    id: str
    location: Location
    lost: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        id: Stable name of the rule, for filters, baselines and links.
        severity: "error" stops a job, "warning" probably harms the result, "info" does not.
        message: One sentence with the total, and the first location where there is one.
        count: How many rows (or lines, classes, …) are affected.
        examples: The first locations, at most `max_examples`.
        fix: What to do about it, or "".
        data: Numbers behind the finding, as plain JSON data.
    """

    id: str
    severity: Severity
    message: str
    count: int = 1
    examples: tuple[Location, ...] = ()
    fix: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        """Return location and fault: `line 7, byte 1234: not valid JSON: …`."""
        if not self.examples:
            return self.message
        first = self.examples[0]
        text = f"{first}: {first.message or self.message}"
        return text if self.count <= 1 else f"{text} ({self.count} in all)"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON data."""
        data: dict[str, Any] = {
            "id": self.id,
            "severity": self.severity,
            "message": self.message,
            "count": self.count,
            "examples": [example.to_dict() for example in self.examples],
        }
        if self.fix:
            data["fix"] = self.fix
        if self.data:
            data["data"] = self.data
        return data


@dataclass(slots=True)
class LocationCounter:
    """How often something occurred, and the first locations where it did.

    Attributes:
        capacity: How many locations to keep; `UNLIMITED` for all.
    """

    capacity: int
    count: int = 0
    examples: list[Location] = field(default_factory=list[Location])

    def add(self, location: Location, count: int = 1) -> None:
        """Count one more, at `location`, or as many in a row, the first one there."""
        self.count += count
        if self.wants_examples:
            self.examples.append(location)

    @property
    def wants_examples(self) -> bool:
        """Whether another location would be kept."""
        return self.capacity == UNLIMITED or len(self.examples) < self.capacity

    def merge(self, following: LocationCounter, lines: int) -> None:
        """Add the counter of the rows that follow; `lines` lines precede them."""
        self.count += following.count
        free = len(following.examples)
        if self.capacity != UNLIMITED:
            free = self.capacity - len(self.examples)
        self.examples += [location.moved(lines) for location in following.examples[:free]]


def excerpt_of(text: str, position: int = 0) -> str:
    """Return a short piece of `text` around `position`, on one line and printable."""
    start = max(0, position - _EXCERPT_LENGTH // 2)
    piece = text[start : start + _EXCERPT_LENGTH]
    printable = piece.encode("utf-8", "backslashreplace").decode("utf-8")
    printable = printable.translate(_VISIBLE)
    return f"{'…' if start else ''}{printable}{'…' if start + _EXCERPT_LENGTH < len(text) else ''}"


_VISIBLE: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


set_public_module(globals(), "tunesmith.datasets")
