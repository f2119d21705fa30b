"""The published vocabularies, packed and shipped with the package, so that no network is needed.

A vocabulary is a mapping from the bytes of a token to its rank; lower ranks merge first. The
patterns that cut a text into pieces before merging are those of tiktoken 0.14, in the syntax of
its regular expressions.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from importlib.resources import files
from typing import Final

__all__ = ["MAX_TOKEN_BYTES", "PATTERNS", "character_class", "load_ranks"]

MAX_TOKEN_BYTES: Final = 128
"""No token of any of the four vocabularies is longer; so a text has at least bytes/128 tokens."""

_GPT2: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

PATTERNS: Final = {
    "r50k_base": _GPT2,
    "p50k_base": _GPT2,
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "o200k_base": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}

_FIRST_SPACES_RANK: Final = 50257
_SPACES: Final = range(2, 26)


def load_ranks(encoding: str) -> dict[bytes, int]:
    """Unpack a vocabulary: the bytes of each token and its rank.

    p50k_base is r50k_base and 24 runs of two to twenty-five spaces, after the one rank that
    belongs to the end-of-text token.
    """
    packed = _read("r50k_base.xz" if encoding == "p50k_base" else f"{encoding}.xz")
    ranks: dict[bytes, int] = {}
    position = 0
    while position < len(packed):
        start = position + 1
        position = start + packed[position]
        ranks[packed[start:position]] = len(ranks)
    if encoding == "p50k_base":
        ranks.update(
            (b" " * length, _FIRST_SPACES_RANK + index) for index, length in enumerate(_SPACES)
        )
    return ranks


def character_class(name: str) -> str:
    r"""Return the ranges of a class of characters, to stand between the brackets of a pattern.

    Python's own tables depend on its version and its `\s` differs, so the ranges are those of
    the reference. Names: "L", "N" (letters, numbers), "upper", "lower" (the two classes of
    o200k_base), "space", "unassigned".
    """
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _character_ranges()[name])


@cache
def _character_ranges() -> dict[str, list[tuple[int, int]]]:
    ranges: dict[str, list[tuple[int, int]]] = json.loads(_read("characters.json.xz"))
    return ranges


def _read(name: str) -> bytes:
    return lzma.decompress(
        (files("tunesmith.datasets.tokens") / "vocabularies" / name).read_bytes()
    )
