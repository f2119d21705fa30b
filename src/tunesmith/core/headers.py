"""Header fields: case-insensitive names, secrets masked in every representation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from tunesmith.errors import ConfigurationError

from .options import is_omitted
from .redact import redacted_headers

__all__ = ["HeaderFields", "Headers", "checked_field", "update_fields"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)


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


def checked_field(name: object, value: object) -> tuple[str, str]:
    """Return a header field of the user's, its name in lower case, without spaces around its value.

    Raises:
        ConfigurationError: It cannot be sent. The message names the field, never its value.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!a:.80} cannot be the name of a header field.")
    if not isinstance(value, str):
        raise ConfigurationError(
            f"The header field {name!r} is not text but {type(value).__name__}."
        )
    # The end of a line comes along when a value is read from a file.
    text = value.strip()
    if not _VALUE.fullmatch(text):
        raise ConfigurationError(
            f"The header field {name!r} contains line breaks or characters outside ASCII, which "
            "cannot be sent in a header."
        )
    return name.lower(), text


def update_fields(fields: dict[str, str], given: Mapping[str, object] | None) -> None:
    """Add a user's header fields; a value marked `omit` removes a field instead.

    Raises:
        ConfigurationError: A field cannot be sent.
    """
    for name, value in (given or {}).items():
        if is_omitted(value):
            fields.pop(name.lower(), None)
        else:
            lower, text = checked_field(name, value)
            fields[lower] = text
