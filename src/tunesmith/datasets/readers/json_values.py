"""Strict decoding of one JSON text: what two parsers could read differently is a fault.

Standard-library JSON, with duplicate keys, NaN, lone surrogates and control characters found.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from tunesmith.datasets.json_types import is_array, is_object

from .lines import other_guess

__all__ = ["UNUSABLE", "JsonFault", "character_faults", "decode_line", "strict_decoder"]


UNUSABLE: Final = frozenset({"encoding", "json-duplicate-key", "json-not-finite", "lone-surrogate"})
"""Faults that leave a value which cannot be used, since readers disagree on what it is."""


class JsonFault(NamedTuple):
    """A fault in one JSON text.

    Attributes:
        id: Id of the rule, see `rules`.
        message: What is wrong.
        position: Byte of the text at which it is.
        column: Character of the text at which it is, counted from 1, where that is known.
        path: JSON path of the value concerned, where that is known.
    """

    id: str
    message: str
    position: int = 0
    column: int | None = None
    path: str = ""


_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_EXAMPLES_IN_ROW: Final = 5


def decode_line(line: bytes) -> tuple[Any, list[JsonFault]]:
    """Decode one JSON text.

    Returns:
        The value (None if it cannot be used) and the faults found.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, [_encoding_fault(line, error)]
    faults: list[JsonFault] = []
    try:
        value = strict_decoder(faults).decode(text)
    except json.JSONDecodeError as error:
        return None, [_syntax_fault(text, error)]
    except RecursionError:
        return None, [JsonFault("json-too-deep", "the value is nested too deeply")]
    except ValueError as error:  # an integer of thousands of digits
        return None, [JsonFault("json-syntax", f"not readable: {error}")]
    if b"\\" in line:
        faults += character_faults(value)
    return value, faults


def _encoding_fault(line: bytes, error: UnicodeDecodeError) -> JsonFault:
    byte = line[error.start]
    guess = ""
    if byte >= 0x80:  # noqa: PLR2004 - the first byte that is not ASCII
        try:
            guess = f", which would be {line[error.start : error.start + 1].decode('cp1252')!r}"
            guess += " in Windows-1252"
        except UnicodeDecodeError:
            guess = ""
    guess = other_guess(line) or guess
    return JsonFault(
        "encoding", f"not valid UTF-8: byte 0x{byte:02x}{guess}", error.start, error.start + 1
    )


def _syntax_fault(text: str, error: json.JSONDecodeError) -> JsonFault:
    reason = (error.msg[:1].lower() + error.msg[1:]).removesuffix(" at")
    position = min(error.pos, len(text))
    ended = position >= len(text.rstrip())
    where = "where the line ends" if ended and text.strip() else f"at column {position + 1}"
    return JsonFault(
        "json-syntax",
        f"not valid JSON: {reason} {where}",
        len(text[:position].encode("utf-8", "surrogatepass")),
        position + 1,
    )


def strict_decoder(faults: list[JsonFault]) -> json.JSONDecoder:
    """Return a decoder that appends what it finds to `faults`."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    faults.append(JsonFault("json-duplicate-key", f"the key {key!r} occurs twice"))
                seen.add(key)
        return value

    def constant(name: str) -> float:
        faults.append(JsonFault("json-not-finite", f"{name} is not JSON"))
        return float(name.replace("Infinity", "inf"))

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant)


def character_faults(value: Any) -> list[JsonFault]:
    """Return the lone surrogates and control characters in the strings of a value."""
    faults: list[JsonFault] = []
    _walk_strings(value, "$", faults)
    return faults[:_MAX_EXAMPLES_IN_ROW]


def _walk_strings(value: Any, path: str, faults: list[JsonFault]) -> None:
    if isinstance(value, str):
        if found := _SURROGATE.search(value):
            code = f"\\u{ord(found[0]):04x}"
            message = f"half of a surrogate pair, {code}, at character {found.start() + 1}"
            faults.append(JsonFault("lone-surrogate", message, path=path))
        if found := _CONTROL.search(value):
            code = f"U+{ord(found[0]):04X}"
            message = f"control character {code} at character {found.start() + 1}"
            faults.append(JsonFault("control-character", message, path=path))
    elif is_object(value):
        for key, item in value.items():
            _walk_strings(key, f"{path}.{key}", faults)
            _walk_strings(item, f"{path}.{key}", faults)
    elif is_array(value):
        for position, item in enumerate(value):
            _walk_strings(item, f"{path}[{position}]", faults)
