"""Texts that are almost the same, found in linear time.

Each text is reduced to a bottom-k sketch: the smallest hashes of its shingles (three consecutive
words; Chinese, Japanese and Korean characters count as words). The share of common values among
the smallest of two sketches estimates the Jaccard similarity of the texts (Broder, "On the
resemblance and containment of documents", 1997). Texts that share one of their smallest values are
compared. The hashes do not depend on the process, so neither does the result.

`NearDuplicates` is the check that finds such rows in a data set; the division into training and
validation data uses the same sketches and clusters.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from zlib import crc32

from .findings import Finding, Location, LocationCounter
from .pairs import completion_text, prompt_text
from .rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from .readers.batch import Batch

__all__ = [
    "DEFAULT_THRESHOLD",
    "NearDuplicates",
    "Sketch",
    "cluster",
    "row_digest",
    "similarity",
    "sketch",
    "sketch_row",
]

Sketch: TypeAlias = tuple[int, ...]

DEFAULT_THRESHOLD: Final = 0.8
"""Jaccard similarity from which two texts count as near-duplicates."""

SKETCH_SIZE: Final = 64
"""Hashes kept for a text: the estimate's standard error is at most 0.06."""

_SHINGLE: Final = 3
# Two texts of similarity 0.8 miss each other here with a probability below one in 100,000.
_COMPARED_BY: Final = 8
# A shingle that very many texts share, such as a line of a template, is compared with the first
# few of them only, which keeps the work linear.
_BUCKET_SIZE: Final = 16
_FEWEST_FOR_A_TEMPLATE: Final = 20

_ASCII_WORDS: Final = re.compile(rb"\w+")
_WORDS: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]"
    r"|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"
)


def sketch(text: str) -> Sketch:
    """Return the sketch of a text; case, punctuation and Unicode form are ignored.

    Texts of fewer than three words are compared whole.
    """
    words = _words(text)
    if not words:
        # Only punctuation: the text itself is compared.
        return (crc32(text.strip().encode("utf-8", "replace")),)
    if len(words) <= _SHINGLE:
        return (crc32(b" ".join(words)),)
    shingles = zip(words, words[1:], words[2:], strict=False)
    return tuple(sorted({crc32(b" ".join(shingle)) for shingle in shingles})[:SKETCH_SIZE])


def sketch_row(value: Mapping[str, Any]) -> Sketch:
    """Return the sketch of a row's prompt; of its completion where there is no prompt."""
    return sketch(prompt_text(value).strip() or completion_text(value))


def row_digest(value: Mapping[str, Any], seed: int = 0) -> bytes:
    """Return 16 bytes that depend on the content of a row (and the seed), not on key order."""
    content = json.dumps(value, sort_keys=True, default=str)
    return blake2b(f"{seed}:{content}".encode(), digest_size=16).digest()


def _words(text: str) -> list[bytes]:
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower().encode())
    text = unicodedata.normalize("NFKC", text).casefold()
    return [word.encode("utf-8", "replace") for word in _WORDS.findall(text)]


def similarity(left: Sketch, right: Sketch, size: int = SKETCH_SIZE) -> float:
    """Estimate the Jaccard similarity of two texts from their sketches, from 0 to 1.

    Args:
        left: One sketch.
        right: The other.
        size: How many of the smallest hashes of the two texts together are known.
    """
    union = sorted({*left, *right})[:size]
    return len({*left}.intersection(right, union)) / len(union) if union else 0.0


def cluster(sketches: Sequence[Sketch], threshold: float = DEFAULT_THRESHOLD) -> list[int]:
    """Group texts that are near-duplicates of each other, directly or through others.

    What more than half of the texts share, such as the words of a template, is ignored.

    Args:
        sketches: One sketch for each text.
        threshold: Similarity from which two texts belong together.

    Returns:
        For each text the index of the first text of its group; a text alone has its own.
    """
    parents = list(range(len(sketches)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first_with: dict[Sketch, int] = {}
    for index, values in enumerate(sketches):
        parents[index] = first_with.setdefault(values, index)
    template = _template(first_with)
    kept: dict[int, Sketch] = {}
    buckets: defaultdict[int, list[int]] = defaultdict(list)
    for values, index in first_with.items():
        own = tuple(value for value in values if value not in template) if template else values
        kept[index] = own
        for other in _neighbours(own, buckets):
            left, right = root(other), root(index)
            if left == right or not _may_reach(threshold, own, kept[other]):
                continue
            whole = len(values) < SKETCH_SIZE and len(sketches[other]) < SKETCH_SIZE
            size = SKETCH_SIZE if whole else min(len(own), len(kept[other]))
            if similarity(own, kept[other], size) >= threshold:
                parents[max(left, right)] = min(left, right)
        for value in own[:_COMPARED_BY]:
            if len(buckets[value]) < _BUCKET_SIZE:
                buckets[value].append(index)
    return [root(index) for index in range(len(sketches))]


def _template(sketches: Collection[Sketch]) -> set[int]:
    """Return the hashes that more than half of many different texts share."""
    if len(sketches) < _FEWEST_FOR_A_TEMPLATE:
        return set()
    counts = Counter(chain.from_iterable(sketches))
    return {value for value, count in counts.items() if 2 * count > len(sketches)}


def _may_reach(threshold: float, left: Sketch, right: Sketch) -> bool:
    """Return whether two sketches have enough in common to be worth a comparison."""
    smaller = min(len(left), len(right))
    return len({*left}.intersection(right)) >= threshold * smaller


def _neighbours(values: Sketch, buckets: dict[int, list[int]]) -> Iterable[int]:
    found: dict[int, None] = {}
    for value in values[:_COMPARED_BY]:
        if value in buckets:
            found.update(dict.fromkeys(buckets[value]))
    return found


class NearDuplicates:
    """Sketches of all prompts; rows that break the rules of their format have one, too.

    Keeps up to 64 hashes a row in memory.
    """

    def __init__(self, max_examples: int) -> None:
        self.max_examples = max_examples
        self.locations: list[Location] = []
        self.sketches: list[Sketch] = []
        self.texts: list[int] = []

    def observe(self, batch: Batch) -> None:
        """Add a batch."""
        for row in batch.rows(None):
            text = prompt_text(row.value)
            self.locations.append(Location(row.line, row.byte_offset))
            self.sketches.append(sketch(text))
            self.texts.append(hash(text))

    def merge(self, following: NearDuplicates, lines: int) -> None:
        """Add the rows that follow; `lines` lines precede them."""
        self.locations += [location.moved(lines) for location in following.locations]
        self.sketches += following.sketches
        self.texts += following.texts

    def conclude(self) -> list[Finding]:
        """Return the rows whose prompt is almost the same as an earlier one, but not the same."""
        counter = LocationCounter(self.max_examples)
        first: dict[int, Location] = {}
        seen: set[int] = set()
        keys = cluster(self.sketches)
        for location, key, text in zip(self.locations, keys, self.texts, strict=True):
            earlier = first.setdefault(key, location)
            if earlier is not location and text not in seen:
                message = f"almost the same prompt as line {earlier.line}"
                counter.add(replace(location, message=message))
            seen.add(text)
        return [make_finding("near-duplicates", counter)] if counter.count else []
