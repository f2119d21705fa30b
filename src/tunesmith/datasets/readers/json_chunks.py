"""Fast decoding of many JSON lines at once, where none of them has a fault.

`json_values.decode_line` is the strict decoder. This one returns rows only where it can prove that
the strict decoder would find no fault in them, and leaves all other chunks to it. msgspec does the
decoding where it is installed, the standard library where it is not.
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter, methodcaller
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.optional import optional
from tunesmith.datasets.row_formats.chat import is_plain

from .batch import pairs_of
from .byte_scan import scan_strings
from .json_values import character_faults, decode_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ChunkDecoder", "Decoded", "decoded_values"]

_Decoder: TypeAlias = "Callable[[bytes], list[Any] | None]"

_prompt = attrgetter("prompt")
_completion = attrgetter("completion")
_messages = attrgetter("messages")
_values_of: Any = methodcaller("values")
_SPACED_KEY: Final = re.compile(rb'"[ \t\r]+:')
_QUOTES_OF_A_STRING: Final = 2
_STRINGS_OF_A_PAIR: Final = 4
_STRINGS_OF_A_MESSAGE: Final = 4


class Decoded(NamedTuple):
    """The rows of a chunk, all of them without a fault.

    Attributes:
        values: One object a line; None if `pairs` or `conversations` holds the rows.
        pairs: Prompts and completions, where each row is these two strings and nothing else.
        conversations: Rows with `messages`, each of them with `role` and `content`, where each
            row is such strings of the three common roles and nothing else.
    """

    values: list[dict[str, Any]] | None
    pairs: tuple[list[str], list[str]] | None = None
    conversations: list[Any] | None = None


class ChunkDecoder:
    """Decodes the chunks of one file, and remembers which kind of rows the last one held."""

    def __init__(self) -> None:
        self._expected: Literal["pairs", "conversations"] | None = "pairs"
        self._learns = optional("msgspec") is not None

    def decode(self, chunk: bytes, lines: int) -> Decoded | None:
        """Decode a chunk.

        Args:
            chunk: Whole lines.
            lines: How many they are.

        Returns:
            The rows; None where any line is not an object, or has or may have a fault.
        """
        decoded = self._as_expected(chunk, lines) or self._as_values(chunk, lines)
        return decoded if decoded is not None and _is_proven(chunk, decoded) else None

    def _as_expected(self, chunk: bytes, lines: int) -> Decoded | None:
        if self._expected is None or not self._learns:
            return None
        rows = _typed_decoder(self._expected)(chunk)
        if rows is None or len(rows) != lines:
            return None
        if self._expected == "conversations":
            return Decoded(None, None, rows)
        return Decoded(None, (list(map(_prompt, rows)), list(map(_completion, rows))))

    def _as_values(self, chunk: bytes, lines: int) -> Decoded | None:
        values = _decoder()(chunk)
        if values is None or len(values) != lines or set(map(type, values)) != {dict}:
            return None
        pairs = pairs_of(values)
        if self._learns:
            self._expected = "pairs" if pairs is not None else None
            if all(map(is_plain, values)):
                self._expected = "conversations"
        return Decoded(values, pairs)


def _is_proven(chunk: bytes, decoded: Decoded) -> bool:
    """Return True where it is certain that the strict decoder finds no fault in the rows."""
    found = scan_strings(chunk)
    if not found.safe and not _characters_proven(chunk, decoded):
        return False
    # Every key and every string has two quotes: a chunk with no more than that repeats no key.
    return found.quotes == _fewest_quotes(decoded) or _keys_proven(chunk, decoded)


def _fewest_quotes(decoded: Decoded) -> int:
    """Return how many quotes plain rows have at least; -1 if they are not all plain."""
    if decoded.pairs is not None:
        return _QUOTES_OF_A_STRING * _STRINGS_OF_A_PAIR * len(decoded.pairs[0])
    if decoded.conversations is not None:
        rows = decoded.conversations
        messages = sum(map(len, map(_messages, rows)))
        return _QUOTES_OF_A_STRING * (len(rows) + _STRINGS_OF_A_MESSAGE * messages)
    values = decoded.values or []
    if set(map(len, values)) != {1}:
        return -1
    try:
        found: Iterable[list[dict[str, Any]]] = map(itemgetter("messages"), values)
        objects = list(chain.from_iterable(found))
        strings: Iterable[Any] = chain.from_iterable(map(_values_of, objects))
        if not set(map(type, strings)) <= {str}:
            return -1
    except (KeyError, TypeError, AttributeError):
        return -1
    return _QUOTES_OF_A_STRING * (len(values) + 2 * sum(map(len, objects)))


def decoded_values(decoded: Decoded, chunk: bytes) -> list[dict[str, Any]]:
    """Return the rows of a chunk that was decoded as JSON objects."""
    if decoded.values is not None:
        return decoded.values
    if decoded.pairs is not None:
        pairs = zip(*decoded.pairs, strict=True)
        return [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    return _decoder()(chunk) or []  # once more: keys keep the order of the file


def _lines_and_values(chunk: bytes, decoded: Decoded) -> list[tuple[bytes, Any]]:
    return list(zip(chunk.split(b"\n"), decoded_values(decoded, chunk), strict=False))


def _characters_proven(chunk: bytes, decoded: Decoded) -> bool:
    return not any(
        character_faults(value)
        for line, value in _lines_and_values(chunk, decoded)
        if b"\\" in line
    )


def _keys_proven(chunk: bytes, decoded: Decoded) -> bool:
    """Return True where no object names a key twice.

    Every key of the text is followed by a colon, so a line has at least as many `":` as its
    objects have keys, and more where a key is repeated. (A string that contains `":` has it more
    often too, and white space may stand before the colon: then the line is read strictly.)
    """
    spaced = _SPACED_KEY.search(chunk) is not None
    return not any(
        decode_line(line)[1]
        for line, value in _lines_and_values(chunk, decoded)
        if spaced or line.count(b'":') != _count_keys(value)
    )


def _count_keys(value: Any) -> int:
    if is_object(value):
        return len(value) + sum(map(_count_keys, value.values()))
    if is_array(value):
        return sum(map(_count_keys, value))
    return 0


@cache
def _typed_decoder(rows: Literal["pairs", "conversations"]) -> _Decoder:
    """Return a decoder for rows of one kind and no other; it returns None for all others."""
    msgspec = optional("msgspec")
    strict: dict[str, Any] = {"gc": False, "forbid_unknown_fields": True}
    fields: list[tuple[str, Any]] = [("prompt", str), ("completion", str)]
    if rows == "conversations":
        # In alphabetical order, in which `checks.duplicate_rows` encodes messages.
        strings = [("content", str), ("role", Literal["system", "user", "assistant"])]
        message = msgspec.defstruct("Message", strings, **strict)
        fields = [("messages", GenericAlias(list, message))]
    return _guarded(msgspec.json.Decoder(msgspec.defstruct("Row", fields, **strict)).decode_lines)


@cache
def _decoder() -> _Decoder:
    """Return the fastest decoder of JSON lines that is installed."""
    msgspec = optional("msgspec")
    return _decode_with_json if msgspec is None else _guarded(msgspec.json.Decoder().decode_lines)


def _guarded(decode_lines: Callable[[bytes], list[Any]]) -> _Decoder:
    def decode(chunk: bytes) -> list[Any] | None:
        try:
            return decode_lines(chunk)
        except (ValueError, RecursionError):  # its own errors and UnicodeDecodeError are these
            return None

    return decode


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
