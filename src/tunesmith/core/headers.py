"""Header fields: case-insensitive names, secrets masked in every representation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .redact import redacted_headers

__all__ = ["HeaderFields", "Headers"]


class Headers(Mapping[str, str]):
    """A read-only mapping of header fields; names are case-insensitive.

    Repeated fields are joined with ", ".
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        joined: dict[str, str] = {}
        for name, value in fields:
            key = name.lower()
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
        self._fields = joined

    @classmethod
    def from_raw(cls, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Build from the bytes of a response; values are Latin-1, as HTTP defines."""
        return cls((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({redacted_headers(self._fields.items())!r})"


class HeaderFields(dict[str, str]):
    """The fields of a request by lower-case name; a dict whose `repr` masks secrets."""

    def __repr__(self) -> str:
        return repr(redacted_headers(self.items()))
