r"""The markers that data carries already: those that people use, and how they type them.

A text that ends with one of the known separators has been given it on purpose, so it gets no
second one. People also type a line break as `\n`, in cells of tables and on the command line.
Which marker a data set should have is not decided here: see `format_inference` and
`format_choice`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

__all__ = [
    "KNOWN_SEPARATORS",
    "KNOWN_STOPS",
    "SEPARATORS",
    "STOPS",
    "head",
    "overlaps",
    "with_typed_line_breaks",
    "without_separators",
    "without_stops",
]

SEPARATORS: Final = (
    "\n\n###\n\n",
    "\n\n===\n\n",
    "\n\n---\n\n",
    "\n\n===>\n\n",
    "\n\n--->\n\n",
    "\n\n### =>\n\n",
)
"""Candidates in order; the first that occurs nowhere is chosen."""

STOPS: Final = ("\n", " END", "\n###\n", "***", "+++", "&&&", "$$$", "@@@", "%%%", " [END]")
"""Candidates in order; the first that occurs nowhere is chosen."""

KNOWN_SEPARATORS: Final = (*SEPARATORS, " ->", "\n->", "\n\n->\n\n", "###", "\n###\n", "\n\n###")
KNOWN_STOPS: Final = (*STOPS, "###", "\n\n###\n\n", "<|endoftext|>", "</s>", " STOP", "\n\n")

_TAIL: Final = 64
# A row of dashes or equals signs is a marker only after an empty line: tables have such lines.
_SPACE: Final = r"(?:\s|\\n)*"
_SEPARATOR_AT_END: Final = re.compile(
    _SPACE
    + r"(?:(?<!#)###(?: \d+ ###| =>)?|(?<=\n\n)(?:={3}>?|-{3}>?)|(?<=\s)[-=]>)"
    + _SPACE
    + r"\Z"
)
_STOP_AT_END: Final = re.compile(
    _SPACE
    + r"(?:(?<!#)###(?: \d+ ###)?|(?<=\s)(?:END|STOP|\[END\])|<\|endoftext\|>|</s>)"
    + _SPACE
    + r"\Z"
)
_SEPARATOR_SIGNS: Final = ("###", "===", "---", "->", "=>")
_STOP_SIGNS: Final = ("###", "END", "STOP", "<|endoftext|>", "</s>")
# The last characters of the signs, and that of a typed line break after one.
_SEPARATOR_ENDS: Final = frozenset("#=->n")
_STOP_ENDS: Final = frozenset("#DP]>n")
# The characters \ and n at the end of a text, and before the marker that they follow.
_TYPED_AT_END: Final = re.compile(
    r"(?<!\\)(?:(?:\\n)+(?:###(?: =>)?|={3}>?|-{3}>?|->))?(?:\\n)+\s*\Z"
)


@cache
def overlaps(marker: str) -> tuple[str, ...]:
    """Return the texts after which the marker, written once, begins before it was written."""
    ends = range(1, len(marker))
    return tuple(marker[:end] for end in ends if marker.startswith(marker[end:]))


@cache
def head(marker: str) -> str:
    """Return the shortest start of the marker with which it, and each of its overlaps, begins.

    A text without it does not hold the marker, nor will it once the marker is written after it.
    """
    return min((*overlaps(marker), marker), key=len)


def without_separators(text: str, separator: str) -> str:
    """Return a prompt without the separators at its end, the given one and other known ones.

    Below the given separator only another of `SEPARATORS` is taken for one: what else stands
    there may belong to the text.
    """
    bare = text.removesuffix(separator) if separator else text
    if bare != text:
        while bare.endswith(SEPARATORS):
            bare = bare.removesuffix(next(mark for mark in SEPARATORS if bare.endswith(mark)))
        return bare
    return _without(_SEPARATOR_AT_END, bare, _SEPARATOR_ENDS, _SEPARATOR_SIGNS)


def without_stops(text: str, stop: str) -> str:
    """Return a completion without the stop sequences at its end, the given and other known ones."""
    bare = text
    while stop and bare.endswith(stop):
        bare = bare.removesuffix(stop)
    return bare if bare != text else _without(_STOP_AT_END, bare, _STOP_ENDS, _STOP_SIGNS)


def _without(
    pattern: re.Pattern[str], text: str, ends: frozenset[str], signs: tuple[str, ...]
) -> str:
    """Return the text without what the pattern finds.

    It finds nothing where the last visible character is none of `ends`, or without any of `signs`.
    """
    if text.rstrip()[-1:] not in ends:
        return text
    tail = text[-_TAIL:]
    for sign in signs:
        if sign in tail:
            break
    else:
        return text
    while match := pattern.search(text, max(0, len(text) - _TAIL)):
        text = text[: match.start()]
    return text


def with_typed_line_breaks(text: str) -> str:
    r"""Return a text in which `\n` typed at its end, around a marker or alone, is a line break."""
    while match := _TYPED_AT_END.search(text, max(0, len(text) - _TAIL)):
        text = text[: match.start()] + match.group().rstrip(" \t").replace("\\n", "\n")
    return text
