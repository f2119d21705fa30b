"""Many JSON lines to rows at once, where all is well with every one of them.

`json_values.decode_line` is the rule book. What is here only ever answers where it can prove that
the rule book would find no fault; it leaves all other chunks to it. msgspec does the decoding
where it is installed, the standard library where it is not.
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter, methodcaller
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.optional import optional
from tunesmith.datasets.readers.bytes_of_chunk import count_byte, only_plain_escapes
from tunesmith.datasets.readers.json_values import character_faults, decode_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ChunkDecoder", "Decoded"]

_values_of: Any = methodcaller("values")
_QUOTE: Final = ord('"')
_QUOTES_OF_A_PAIR: Final = 8
_SPACED_KEY: Final = re.compile(rb'"[ \t\r]+:')


class Decoded(NamedTuple):
    """The rows of a chunk, all of them without a fault.

    Attributes:
        values: One object a line; None if `pairs` says it all.
        pairs: Prompts and completions, where each row is these two strings and nothing else.
    """

    values: list[dict[str, Any]] | None
    pairs: tuple[list[str], list[str]] | None = None


class ChunkDecoder:
    """Decodes the chunks of one file, and remembers what kind of rows it met."""

    def __init__(self) -> None:
        self._expects_pairs = True

    def decode(self, chunk: bytes, lines: int) -> Decoded | None:
        """Decode a chunk.

        Args:
            chunk: Whole lines.
            lines: How many they are.

        Returns:
            The rows; None where any line is not an object, or has or may have a fault.
        """
        if self._expects_pairs:
            pairs = _pair_decoder()(chunk)
            if pairs is not None and len(pairs[0]) == lines:
                return _proven(chunk, Decoded(None, pairs))
        values = _decoder()(chunk)
        if values is None or len(values) != lines or set(map(type, values)) != {dict}:
            return None
        self._expects_pairs = (pairs := _pairs(values)) is not None
        return _proven(chunk, Decoded(values, pairs))


def _proven(chunk: bytes, decoded: Decoded) -> Decoded | None:
    """Return the rows if it is certain that the rule book finds nothing in them."""
    plain = only_plain_escapes(chunk)
    if not plain and not _characters_proven(chunk, decoded):
        return None
    # Every key and every string has two quotes: a chunk with no more than that repeats no key.
    if plain and count_byte(chunk, _QUOTE) == _fewest_quotes(decoded):
        return decoded
    return decoded if _keys_proven(chunk, decoded) else None


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


def _fewest_quotes(decoded: Decoded) -> int:
    """Return how many quotes plain rows have at least; -1 if they are not all plain."""
    if decoded.pairs is not None:
        return _QUOTES_OF_A_PAIR * len(decoded.pairs[0])
    values = decoded.values or []
    if set(map(len, values)) != {1}:
        return -1
    try:
        found: Iterator[list[dict[str, Any]]] = map(itemgetter("messages"), values)
        messages = list(chain.from_iterable(found))
        strings: Iterator[Any] = chain.from_iterable(map(_values_of, messages))
        if not set(map(type, strings)) <= {str}:
            return -1
    except (KeyError, TypeError, AttributeError):
        return -1
    return 2 * len(values) + 4 * sum(map(len, messages))


def _lines_and_values(chunk: bytes, decoded: Decoded) -> list[tuple[bytes, Any]]:
    lines = chunk.split(b"\n")
    if decoded.values is not None:
        return list(zip(lines, decoded.values, strict=False))
    pairs = zip(*(decoded.pairs or ()), strict=True)
    rows = ({"prompt": prompt, "completion": completion} for prompt, completion in pairs)
    return list(zip(lines, rows, strict=False))


def _characters_proven(chunk: bytes, decoded: Decoded) -> bool:
    return not any(
        character_faults(value)
        for line, value in _lines_and_values(chunk, decoded)
        if not only_plain_escapes(line)
    )


def _keys_proven(chunk: bytes, decoded: Decoded) -> bool:
    """Tell whether no object names a key twice.

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
def _pair_decoder() -> Callable[[bytes], tuple[list[str], list[str]] | None]:
    """Return a decoder for rows of a prompt and a completion, both of them strings."""
    msgspec = optional("msgspec")
    if msgspec is None:
        return _no_pairs
    fields = [("prompt", str), ("completion", str)]
    row = msgspec.defstruct("PairRow", fields, gc=False, forbid_unknown_fields=True)
    decode_lines = msgspec.json.Decoder(row).decode_lines
    prompt, completion = attrgetter("prompt"), attrgetter("completion")

    def decode(chunk: bytes) -> tuple[list[str], list[str]] | None:
        try:
            rows = decode_lines(chunk)
        except (ValueError, RecursionError):  # its own errors and UnicodeDecodeError are these
            return None
        return list(map(prompt, rows)), list(map(completion, rows))

    return decode


def _no_pairs(chunk: bytes) -> None:
    del chunk


@cache
def _decoder() -> Callable[[bytes], list[Any] | None]:
    """Return the fastest decoder of JSON lines that is installed."""
    msgspec = optional("msgspec")
    if msgspec is None:
        return _decode_with_json
    decode_lines = msgspec.json.Decoder().decode_lines

    def decode(chunk: bytes) -> list[Any] | None:
        try:
            return list(decode_lines(chunk))
        except (ValueError, RecursionError):
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
