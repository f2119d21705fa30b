"""Byte-pair encoding in plain Python: exact and slow, without any extra.

Text is cut into pieces by the pattern of the encoding; within a piece, adjacent parts whose join
has the lowest rank merge first, the leftmost of equals before the others, until no join is in the
vocabulary.
"""

from __future__ import annotations

import heapq
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .encoder import replace_surrogates
from .vocabulary import PATTERNS, character_class, load_ranks
from .word_counts import WordCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PythonEncoder"]

_CACHED_PIECES: Final = 1 << 16


class PythonEncoder:
    """An `Encoder` without dependencies."""

    def __init__(self, encoding: str) -> None:
        self.name = encoding
        self._ranks = load_ranks(encoding)
        self._pieces = re.compile(_translate(PATTERNS[encoding])).findall
        # Words repeat, so most pieces of a text are found in this cache.
        self._encode_piece = lru_cache(_CACHED_PIECES)(self._merge)
        self._words = WordCounts(lambda text: len(self.encode(text)))

    def count(self, text: str) -> int:
        """See `Encoder.count`."""
        return self._words.count(text)

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """See `Encoder.count_batch`."""
        return list(map(self._words.count, texts))

    def encode(self, text: str) -> list[int]:
        """See `Encoder.encode`."""
        return [token for piece in self._split(text) for token in self._encode_piece(piece)]

    def _split(self, text: str) -> list[str]:
        pieces: list[str] = self._pieces(replace_surrogates(text))
        return pieces

    def _merge(self, piece: str) -> tuple[int, ...]:
        ranks = self._ranks
        content = piece.encode()
        if content in ranks:
            return (ranks[content],)
        # Part i runs from i to ends[i]; starts[i] is the part before it. A queued join is stale
        # when either of its halves has since grown or gone.
        size = len(content)
        ends = list(range(1, size + 1))
        starts = list(range(-1, size - 1))
        queue: list[tuple[int, int, int, int]] = []

        def offer(left: int) -> None:
            middle = ends[left]
            if middle < size and (rank := ranks.get(content[left : ends[middle]])) is not None:
                heapq.heappush(queue, (rank, left, middle, ends[middle]))

        for left in range(size - 1):
            offer(left)
        while queue:
            _, left, middle, end = heapq.heappop(queue)
            if ends[left] != middle or ends[middle] != end:
                continue
            ends[left] = end
            ends[middle] = -1
            if end < size:
                starts[end] = left
            offer(left)
            if starts[left] >= 0:
                offer(starts[left])
        tokens: list[int] = []
        left = 0
        while left < size:
            tokens.append(ranks[content[left : ends[left]]])
            left = ends[left]
        return tuple(tokens)


def _translate(pattern: str) -> str:
    r"""Rewrite a pattern of tiktoken for Python's `re`, which knows neither \p{L} nor its \s."""
    upper, lower = character_class("upper"), character_class("lower")
    space = character_class("space")
    outside = f"\\r\\n{character_class('L')}{character_class('N')}"
    for old, new in (
        (r"[^\s\p{L}\p{N}]", f"[^{space}{character_class('L')}{character_class('N')}]"),
        (r"[^\r\n\p{L}\p{N}]", f"[^{outside}]"),
        (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", f"[{upper}]"),
        (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", f"[{lower}]"),
        (r"\p{L}", f"[{character_class('L')}]"),
        (r"\p{N}", f"[{character_class('N')}]"),
        (r"\S", f"[^{space}]"),
        (r"\s", f"[{space}]"),
        ("$", r"\Z"),
    ):
        pattern = pattern.replace(old, new)
    return pattern
