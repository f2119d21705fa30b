"""A place in a text that grows, for parsers that are written as generators.

A method that has to wait for more text yields; whoever drives the parser continues it when more has
come. What a method returns depends on the text alone, never on the pieces it came in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

__all__ = ["GrowingText", "Steps", "UnexpectedTextError"]

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""A computation that yields whenever it needs more text."""

_SPACE = " \t\r\n"
_OUTSIDE = re.compile(r'[^"{}\[\]]*')
_INSIDE = re.compile(r'[^"\\]*')
_LITERAL = re.compile(r"[^\s,\[\]{}]*")
_CLOSING = {"{": "}", "[": "]"}


class UnexpectedTextError(Exception):
    """The text is not of the form that was tried."""


class GrowingText:
    """A text, and how far it has been read.

    Attributes:
        text: The text so far.
        final: Whether it is complete.
        position: Where reading goes on.
    """

    def __init__(self) -> None:
        self.text = ""
        self.final = False
        self.position: int = 0

    def peek(self, count: int) -> Steps[str]:
        """Return the next characters; fewer at the end of the text."""
        while len(self.text) - self.position < count and not self.final:
            yield
        return self.text[self.position : self.position + count]

    def sees(self, literal: str) -> Steps[bool]:
        """Return whether this text comes next."""
        while True:
            seen = self.text[self.position : self.position + len(literal)]
            if seen == literal:
                return True
            if self.final or not literal.startswith(seen):
                return False
            yield

    def accept(self, *literals: str) -> Steps[str | None]:
        """Skip the first of some texts that comes next; return it, or None."""
        for literal in literals:
            if (yield from self.sees(literal)):
                self.position += len(literal)
                return literal
        return None

    def expect(self, *literals: str) -> Steps[str]:
        """Skip one of some texts, which must come next.

        Raises:
            UnexpectedTextError: None of them does.
        """
        found = yield from self.accept(*literals)
        if found is None:
            raise UnexpectedTextError
        return found

    def skip(self, characters: str = _SPACE) -> Steps[None]:
        """Skip all of some characters that come next, blanks by default."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in characters:
                self.position += 1
            if self.position < len(self.text) or self.final:
                return
            yield

    def match(self, pattern: re.Pattern[str]) -> Steps[str]:
        """Read the longest text that matches; each start of a match must be one, too."""
        while True:
            found = pattern.match(self.text, self.position)
            end = self.position if found is None else found.end()
            if end < len(self.text) or self.final:
                text = self.text[self.position : end]
                self.position = end
                return text
            yield

    def find_first(self, literals: tuple[str, ...]) -> tuple[str | None, int]:
        """Return the first of some texts from here on, and where it begins.

        Returns:
            None and the place up to which none can begin, if none has come yet.
        """
        places = {
            literal: place
            for literal in literals
            if (place := self.text.find(literal, self.position)) >= 0
        }
        found = min(places, key=lambda literal: places[literal], default=None)
        if found is not None:
            return found, places[found]
        held = 0 if self.final else partial_length(self.text, literals, self.position)
        return None, len(self.text) - held

    def until(self, *literals: str, emit: Callable[[str], None] | None = None) -> Steps[str | None]:
        """Read up to the first of some texts and skip that; return it, None at the end.

        Args:
            literals: The texts.
            emit: Gets what is read, in pieces.
        """
        while True:
            found, end = self.find_first(literals)
            if emit is not None and end > self.position:
                emit(self.text[self.position : end])
                self.position = end
            if found is not None:
                self.position = end + len(found)
                return found
            if self.final:
                self.position = end
                return None
            yield

    def text_until(self, *literals: str) -> Steps[str]:
        """Read up to the first of some texts, skip that, and return what stands before it.

        Raises:
            UnexpectedTextError: None of them comes.
        """
        pieces = list[str]()
        if (yield from self.until(*literals, emit=pieces.append)) is None:
            raise UnexpectedTextError
        return "".join(pieces)

    def json_value(self, emit: Callable[[str], None]) -> Steps[bool]:
        """Read one JSON value and pass it on as it is written; return whether it is complete.

        Raises:
            UnexpectedTextError: Its brackets do not match.
        """
        first = yield from self.peek(1)
        if first == '"':
            return (yield from self._json_string(emit))
        if first not in _CLOSING:
            text = yield from self.match(_LITERAL)
            emit(text)
            return bool(text) and not (self.final and self.position == len(self.text))
        return (yield from self._json_container(emit))

    def json(self) -> Steps[Any]:
        """Read one JSON value and return what it stands for.

        Raises:
            UnexpectedTextError: It is none.
        """
        pieces = list[str]()
        yield from self.json_value(pieces.append)
        try:
            return json.loads("".join(pieces))
        except (ValueError, RecursionError):
            raise UnexpectedTextError from None

    def _json_container(self, emit: Callable[[str], None]) -> Steps[bool]:
        closing = list[str]()
        while True:
            found = _OUTSIDE.match(self.text, self.position)
            self._pass(self.position if found is None else found.end(), emit)
            character = yield from self.peek(1)
            if not character:
                return False
            if character == '"':
                if not (yield from self._json_string(emit)):
                    return False
                continue
            if character in _CLOSING:
                closing.append(_CLOSING[character])
            elif character not in "}]":
                continue
            elif character != closing.pop():
                raise UnexpectedTextError
            self._pass(self.position + 1, emit)
            if not closing:
                return True

    def _json_string(self, emit: Callable[[str], None]) -> Steps[bool]:
        self._pass(self.position + 1, emit)
        while True:
            found = _INSIDE.match(self.text, self.position)
            self._pass(self.position if found is None else found.end(), emit)
            character = yield from self.peek(1)
            if not character:
                return False
            if character == '"':
                self._pass(self.position + 1, emit)
                return True
            if character == "\\":
                escape = yield from self.peek(2)
                self._pass(self.position + len(escape), emit)

    def _pass(self, end: int, emit: Callable[[str], None]) -> None:
        if end > self.position:
            emit(self.text[self.position : end])
            self.position = end


def partial_length(text: str, literals: tuple[str, ...], start: int = 0) -> int:
    """Return the length of the longest end of a text, from `start` on, that may begin a literal."""
    longest = max(map(len, literals), default=0)
    for place in range(max(start, len(text) - longest + 1), len(text)):
        rest = text[place:]
        if any(literal.startswith(rest) for literal in literals):
            return len(rest)
    return 0
