"""Reads the arguments of a tool call that are not written as JSON: Gemma's notation and Python's.

Of calls, their names and their ends it knows nothing.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

from .growing_text import UnexpectedTextError

if TYPE_CHECKING:
    from .growing_text import GrowingText, Steps

__all__ = ["gemma_key", "gemma_value", "python_arguments"]

_KEY = re.compile(r"[^\s:,{}\[\]]*")
_QUOTES = ('<|"|>', "<escape>", '"')
_DEEPEST = 100
_JSON_NAMES = {"true": True, "false": False, "null": None}


def gemma_key(text: GrowingText) -> Steps[str]:
    """Read a key and the colon behind it."""
    quote = yield from text.accept(*_QUOTES)
    if quote is None:
        key = yield from text.match(_KEY)
    else:
        key = yield from text.text_until(quote)
    yield from text.skip()
    yield from text.expect(":")
    yield from text.skip()
    return key


def gemma_value(text: GrowingText, depth: int = 0) -> Steps[Any]:
    """Read a value: an object, a list, a quoted text or a word.

    Args:
        text: The text.
        depth: In how many objects and lists it lies; a hundred are the most.

    Raises:
        UnexpectedTextError: Something else comes.
    """
    if depth > _DEEPEST:
        raise UnexpectedTextError
    if (yield from text.accept("{")):
        return (yield from _gemma_object(text, depth))
    if (yield from text.accept("[")):
        items = list[Any]()
        while True:
            yield from text.skip(" \t\r\n,")
            if (yield from text.accept("]")):
                return items
            items.append((yield from gemma_value(text, depth + 1)))
    quote = yield from text.accept(*_QUOTES[:2])
    if quote is not None:
        return (yield from text.text_until(quote))
    if (yield from text.sees('"')):
        return (yield from text.json())
    return _gemma_word((yield from text.match(_KEY)))


def _gemma_object(text: GrowingText, depth: int) -> Steps[dict[str, Any]]:
    values = dict[str, Any]()
    while True:
        yield from text.skip(" \t\r\n,")
        if (yield from text.accept("}")):
            return values
        key = yield from gemma_key(text)
        values[key] = yield from gemma_value(text, depth + 1)


def _gemma_word(word: str) -> Any:
    if not word:
        raise UnexpectedTextError
    try:
        return json.loads(word)
    except ValueError:
        return None if word == "None" else word


def python_arguments(text: GrowingText) -> Steps[dict[str, Any]]:
    """Read the arguments of a call in Python's form, up to its closing bracket.

    Raises:
        UnexpectedTextError: They are no literals behind keywords. JSON's names are known, too.
    """
    pieces = ["f("]
    depth = 1
    while depth:
        found = yield from text.until("(", ")", "'", '"', emit=pieces.append)
        if found is None:
            raise UnexpectedTextError
        pieces.append(found)
        depth += {"(": 1, ")": -1}.get(found, 0)
        if found in "'\"":
            yield from _python_string(text, found, pieces)
    return _literal_arguments("".join(pieces))


def _python_string(text: GrowingText, quote: str, pieces: list[str]) -> Steps[None]:
    while True:
        found = yield from text.until(quote, "\\", emit=pieces.append)
        if found is None:
            raise UnexpectedTextError
        pieces.append(found)
        if found == quote:
            return
        escaped = yield from text.peek(1)
        text.position += len(escaped)
        pieces.append(escaped)


def _literal_arguments(source: str) -> dict[str, Any]:
    try:
        call = ast.parse(source, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise UnexpectedTextError
        return {str(word.arg): _literal(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UnexpectedTextError from None


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _JSON_NAMES[node.id] if node.id in _JSON_NAMES else _refuse()
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_refuse() if key is None else _literal(key) for key in node.keys]
        return dict(zip(map(str, keys), map(_literal, node.values), strict=True))
    value = ast.literal_eval(node)
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value if isinstance(value, int | float | None) else _refuse()


def _refuse() -> Any:
    raise UnexpectedTextError
