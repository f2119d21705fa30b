r"""The endings that the texts of a data set share, and how many rows must have each.

Rows in their format share a marker; other rows share the end of a sentence or of a template. Which
of the endings is the marker is decided in `format_inference`.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from .format_markers import KNOWN_SEPARATORS, KNOWN_STOPS, without_separators, without_stops

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .pairs import Pair

__all__ = [
    "BRACKETED",
    "NUMBERED",
    "PUNCTUATION",
    "Part",
    "begins_in_word",
    "candidates",
    "distinct_texts",
    "needed_share",
]

Part: TypeAlias = Literal["separator", "leading_whitespace", "stop"]

# How many rows must have an ending before it counts as their marker: most of them, unless it can
# hardly stand there by accident.
_MAJORITY: Final = 0.8
_KNOWN_SHARE: Final = 0.1
_SYMBOL_SHARE: Final = 0.25
_LABEL_SHARE: Final = 0.5
_MAX_SUFFIX: Final = 64
PUNCTUATION: Final = frozenset(
    ".,;:!?…'\"»)]}\u2019\u201d\u300d\u3002\uff01\uff09\uff0c\uff1a\uff1b\uff1f"
)
BRACKETED: Final = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
NUMBERED: Final = re.compile(r"\n\n### \d+ ###\n\n")


def distinct_texts(sample: Iterable[Pair]) -> tuple[list[str], list[str]]:
    """Return prompts and completions that differ in more than their markers.

    Repeated texts prove nothing, and neither does a completion that is nothing but a marker.
    """
    prompts: dict[str, str] = {}
    completions: dict[str, str] = {}
    for pair in sample:
        if answer := without_stops(pair.completion, "").strip():
            prompts.setdefault(without_separators(pair.prompt, "").strip(), pair.prompt)
            completions.setdefault(answer, pair.completion)
    return list(prompts.values()), list(completions.values())


def candidates(texts: Sequence[str], known: Sequence[str], part: Part) -> list[str]:
    """Return possible endings, the most plausible first."""
    found = _known_endings(texts, known, part)
    shared = _common_suffix(texts, max(_MAJORITY * len(texts), 2))
    if shared:
        found += [shared[start:] for start in _starts(shared)]
    last_characters = Counter(text[-1:] for text in texts)
    for share in (_LABEL_SHARE, _SYMBOL_SHARE):
        for last, count in last_characters.items():
            if count < share * len(texts):
                continue
            alike = [text for text in texts if text[-1:] == last]
            ending = _common_suffix(alike, share * len(texts))
            values = (ending[start:] for start in _starts(ending))
            found += [value for value in values if needed_share(value, part) <= share]
    distinct = dict.fromkeys([*found, *_ending_of_all(texts)])
    return [value for value in distinct if value and not _is_longer_form(value, known)]


def _is_longer_form(value: str, known: Sequence[str]) -> bool:
    """Return whether an ending is one of the known markers with more text before it."""
    marks = tuple(mark for mark in known if mark.strip())
    return value not in known and value.endswith(marks)


def _known_endings(texts: Sequence[str], known: Sequence[str], part: Part) -> list[str]:
    """Return the known markers with which enough texts end, the most frequent first."""
    values = {*known, *(match.group() for text in texts if (match := _numbered_ending(text)))}
    counts = {value: sum(text.endswith(value) for text in texts) for value in values}
    found = [
        value
        for value, count in counts.items()
        if count >= max(needed_share(value, part) * len(texts), 1)
    ]
    # White space comes last: a text that ends with "\n###\n" also ends with "\n".
    return sorted(found, key=lambda value: (not value.strip(), -counts[value], -len(value), value))


def _numbered_ending(text: str) -> re.Match[str] | None:
    match = NUMBERED.search(text, max(0, len(text) - _MAX_SUFFIX)) if text[-1:] == "\n" else None
    return match if match and match.end() == len(text) else None


def _ending_of_all(texts: Sequence[str]) -> list[str]:
    """Return the endings that every text has, and only once."""
    shared = _common_suffix(texts, max(len(texts), 2))
    endings = (shared[start:] for start in range(len(shared)))
    return [
        ending
        for ending in endings
        if not begins_in_word(ending)
        and all(text.find(ending) == len(text) - len(ending) for text in texts)
    ][:1]


def _common_suffix(texts: Sequence[str], needed: float) -> str:
    """Return the longest ending that so many texts have in common, up to a limit."""
    remaining = list(texts)
    length = 0
    while length < _MAX_SUFFIX:
        before = Counter(text[-length - 1] for text in remaining if len(text) > length)
        if not before or (best := before.most_common(1)[0])[1] < needed:
            break
        remaining = [
            text for text in remaining if len(text) > length and text[-length - 1] == best[0]
        ]
        length += 1
    return remaining[0][len(remaining[0]) - length :] if length else ""


def _starts(shared: str) -> list[int]:
    """Return where in a shared ending a separator may begin, the best position first.

    First a bracket such as <sep>, then the last line with the line breaks before it, then its
    last word with the white space before it, then the symbols at the very end, then white
    space alone; at last whole lines further up, for a last line that is not unique.
    """
    visible = len(shared.rstrip())
    lines = [
        position
        for position in range(visible)
        if shared[position] == "\n" and (position == 0 or shared[position - 1] != "\n")
    ]
    spaces = [
        position
        for position in range(visible)
        if shared[position].isspace() and (position == 0 or not shared[position - 1].isspace())
    ]
    symbols = visible
    while symbols and not (shared[symbols - 1].isalnum() or shared[symbols - 1].isspace()):
        symbols -= 1
    while symbols < visible and shared[symbols] in PUNCTUATION:
        symbols += 1
    brackets = [match.start() for match in BRACKETED.finditer(shared) if match.end() == visible]
    return [*brackets, *lines[-1:], *spaces[-1:], symbols, visible, *reversed(lines[:-1]), 0]


def needed_share(value: str, part: Part) -> float:
    """Return the share of the rows that must end with a value before it is their marker."""
    visible = value.strip()
    known = KNOWN_SEPARATORS if part == "separator" else KNOWN_STOPS
    if visible and (value in known or NUMBERED.fullmatch(value)):
        return _KNOWN_SHARE if part == "separator" else _SYMBOL_SHARE
    if part == "stop" or not visible:
        return _MAJORITY
    if not any(map(str.isalnum, visible)) or BRACKETED.fullmatch(visible):
        return _SYMBOL_SHARE
    return _LABEL_SHARE if value.startswith("\n") and visible.endswith(":") else _MAJORITY


def begins_in_word(value: str) -> bool:
    """Return whether an ending is empty or begins with a letter or a digit."""
    return not value or value[0].isalnum()
