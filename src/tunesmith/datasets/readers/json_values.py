"""JSON texts to values, strictly: what two readers could take differently is a fault.

`decode_line` is the rule book: standard-library JSON, with duplicate keys, NaN, lone surrogates
and control characters found. `decode_chunk` is a fast way to the same values for many lines at
once: it answers only where it can prove that `decode_line` would find no fault in any of them.
msgspec does the decoding where it is installed, the standard library where it is not.
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tunesmith.datasets.optional import optional
from tunesmith.datasets.readers.bytes_of_chunk import count_byte, only_plain_escapes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Decoded", "JsonFault", "decode_chunk", "decode_line"]


class JsonFault(NamedTuple):
    """A fault in one JSON text.

    Attributes:
        id: Id of the rule, see `catalogue`.
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
_SPACED_KEY: Final = re.compile(rb'"[ \t\r]+:')
_QUOTE: Final = ord('"')
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
        value = _strict_decoder(faults)(text)
    except json.JSONDecodeError as error:
        return None, [_syntax_fault(text, error)]
    except RecursionError:
        return None, [JsonFault("json-too-deep", "the value is nested too deeply")]
    except ValueError as error:  # an integer of thousands of digits
        return None, [JsonFault("json-syntax", f"not readable: {error}")]
    if not only_plain_escapes(line):
        faults += _character_faults(value)
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
    return JsonFault(
        "encoding", f"not valid UTF-8: byte 0x{byte:02x}{guess}", error.start, error.start + 1
    )


def _syntax_fault(text: str, error: json.JSONDecodeError) -> JsonFault:
    reason = error.msg[:1].lower() + error.msg[1:]
    position = min(error.pos, len(text))
    ended = position >= len(text.rstrip())
    where = "where the line ends" if ended and text.strip() else f"at column {position + 1}"
    return JsonFault(
        "json-syntax",
        f"not valid JSON: {reason} {where}",
        len(text[:position].encode("utf-8", "surrogatepass")),
        position + 1,
    )


def _strict_decoder(faults: list[JsonFault]) -> Callable[[str], Any]:
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

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant).decode


def _character_faults(value: Any) -> list[JsonFault]:
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
    elif isinstance(value, dict):
        for key, item in value.items():
            _walk_strings(key, f"{path}.{key}", faults)
            _walk_strings(item, f"{path}.{key}", faults)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _walk_strings(item, f"{path}[{position}]", faults)


class Decoded(NamedTuple):
    """The rows of a chunk, all of them without a fault.

    Attributes:
        values: One object a line.
        pairs: Prompts and completions, where each row is these two strings and nothing else.
    """

    values: list[dict[str, Any]]
    pairs: tuple[list[str], list[str]] | None = None


def decode_chunk(chunk: bytes, lines: int) -> Decoded | None:
    """Decode a chunk of JSON lines at once, where all is well with every one of them.

    Args:
        chunk: Whole lines.
        lines: How many they are.

    Returns:
        The rows; None where any line is not an object, or has or may have a fault.
    """
    values = _decoder()(chunk)
    if values is None or len(values) != lines or set(map(type, values)) != {dict}:
        return None
    plain = only_plain_escapes(chunk)
    if not plain and not _characters_proven(chunk, values):
        return None
    pairs = _pairs(values)
    quotes = 8 * len(values) if pairs else _fewest_chat_quotes(values)
    # Every key and every string has two quotes: a chunk with no more than that repeats no key.
    if plain and count_byte(chunk, _QUOTE) == quotes:
        return Decoded(values, pairs)
    return Decoded(values, pairs) if _keys_proven(chunk, values) else None


def _pairs(values: list[dict[str, Any]]) -> tuple[list[str], list[str]] | None:
    if set(map(len, values)) != {2}:
        return None
    try:
        prompts = list(map(itemgetter("prompt"), values))
        completions = list(map(itemgetter("completion"), values))
    except KeyError:
        return None
    strings = {*map(type, prompts), *map(type, completions)} == {str}
    return (prompts, completions) if strings else None


def _fewest_chat_quotes(values: list[dict[str, Any]]) -> int:
    """Return how many quotes plain chat rows have at least; -1 if they are not all plain."""
    if set(map(len, values)) != {1}:
        return -1
    try:
        messages = list(chain.from_iterable(map(itemgetter("messages"), values)))
        strings = chain.from_iterable(map(dict.values, messages))
        if not set(map(type, strings)) <= {str}:
            return -1
    except (KeyError, TypeError):
        return -1
    return 2 * len(values) + 4 * sum(map(len, messages))


def _characters_proven(chunk: bytes, values: list[Any]) -> bool:
    for line, value in zip(chunk.split(b"\n"), values, strict=False):
        if not only_plain_escapes(line) and _character_faults(value):
            return False
    return True


def _keys_proven(chunk: bytes, values: list[dict[str, Any]]) -> bool:
    """Tell whether no object names a key twice.

    Every key of the text is followed by a colon, so a line has at least as many `":` as its
    objects have keys, and more where a key is repeated. (A string that contains `":` has it more
    often too, and white space may stand before the colon: then the line is read strictly.)
    """
    spaced = _SPACED_KEY.search(chunk) is not None
    for line, value in zip(chunk.split(b"\n"), values, strict=False):
        suspect = spaced or line.count(b'":') != _count_keys(value)
        if suspect and decode_line(line)[1]:
            return False
    return True


def _count_keys(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum(map(_count_keys, value.values()))
    if type(value) is list:
        return sum(map(_count_keys, value))
    return 0


@cache
def _decoder() -> Callable[[bytes], list[Any] | None]:
    """Return the fastest decoder of JSON lines that is installed."""
    msgspec = optional("msgspec")
    if msgspec is None:
        return _decode_with_json
    decode_lines = msgspec.json.Decoder().decode_lines

    def decode_with_msgspec(chunk: bytes) -> list[Any] | None:
        try:
            return decode_lines(chunk)
        except (ValueError, RecursionError):  # its own errors and UnicodeDecodeError are these
            return None

    return decode_with_msgspec


def _not_finite(name: str) -> float:
    raise ValueError(name)


_RAW_DECODE: Final = json.JSONDecoder(parse_constant=_not_finite).raw_decode


def _decode_with_json(chunk: bytes) -> list[Any] | None:
    try:
        lines = chunk.decode("utf-8").split("\n")
        if not lines[-1]:
            lines.pop()
        pairs = list(map(_RAW_DECODE, lines))
    except (ValueError, RecursionError):
        return None
    values = [value for value, _ in pairs]
    ends = [end for _, end in pairs]
    return values if ends == list(map(len, lines)) else None
