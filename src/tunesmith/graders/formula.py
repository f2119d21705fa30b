"""The formula of a multi grader: parsed into a tree and computed, never evaluated as Python."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["Formula", "FormulaError"]

MAX_LENGTH = 4096
MAX_DEPTH = 64

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_SEVERAL = frozenset({"min", "max"})
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|(\S))")


class FormulaError(ValueError):
    """A formula that has no meaning, or no value."""


_Node: TypeAlias = "float | str | _Call | _Chain"


@dataclass(frozen=True, slots=True)
class _Call:
    """An operator or a function, applied."""

    apply: Callable[..., float]
    arguments: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Chain:
    """Operators of one precedence, applied from the left; as long as it likes, without nesting."""

    first: _Node
    rest: tuple[tuple[str, _Node], ...]


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula's tree, and the names in it in order of appearance."""

    root: _Node
    names: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, text: str) -> Formula:
        """Return the formula that a text has.

        Raises:
            FormulaError: It has none.
        """
        if len(text) > MAX_LENGTH:
            raise FormulaError(f"a formula has at most {MAX_LENGTH} characters.")
        return _Parser(text).formula()

    def check_names(self, known: Collection[str]) -> None:
        """Raise FormulaError for a name that is none of the known ones."""
        for name in self.names:
            if name not in known:
                raise FormulaError(
                    f"{name!r} is no grader; there is {', '.join(sorted(known))}. Functions are "
                    f"{', '.join(_FUNCTIONS)}."
                )

    def value(self, values: Mapping[str, float]) -> float:
        """Return the formula's value.

        Raises:
            FormulaError: It has none: a division by zero, a root of a negative number, a number
                that is too large.
        """
        try:
            found = float(_value(self.root, values))
        except (ArithmeticError, ValueError) as error:
            raise FormulaError(f"it cannot be computed: {error}.") from None
        if not math.isfinite(found):
            raise FormulaError("it cannot be computed: the result is no finite number.")
        return found


def _value(node: _Node, values: Mapping[str, float]) -> float:
    if isinstance(node, str):
        return values[node]
    if isinstance(node, _Chain):
        result = _value(node.first, values)
        for sign, one in node.rest:
            result = _OPERATORS[sign](result, _value(one, values))
        return result
    if isinstance(node, _Call):
        return node.apply(*(_value(one, values) for one in node.arguments))
    return node


class _Parser:
    """Recursive descent: sum, product, sign, power, atom."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        for match in _TOKEN.finditer(text):
            kind = ("number", "name", "sign")[(match.lastindex or 1) - 1]
            self._tokens.append((kind, match[match.lastindex or 1]))
        self._position = 0
        self._depth = 0
        self._names: list[str] = []

    def formula(self) -> Formula:
        root = self._sum()
        kind, text = self._peek()
        if kind:
            raise FormulaError(f"{text!r} is not expected there.")
        return Formula(root, tuple(dict.fromkeys(self._names)))

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._position] if self._position < len(self._tokens) else ("", "")

    def _take(self, *texts: str) -> str | None:
        """Return the next sign and pass it, if it is one of these."""
        kind, text = self._peek()
        if kind != "sign" or text not in texts:
            return None
        self._position += 1
        return text

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            found = self._peek()[1]
            raise FormulaError(f"{text!r} is missing " + (f"before {found!r}." if found else "."))

    def _sum(self) -> _Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FormulaError(f"it is nested deeper than {MAX_DEPTH} levels.")
        node = self._chain(self._product, "+", "-")
        self._depth -= 1
        return node

    def _product(self) -> _Node:
        return self._chain(self._signed, "*", "/")

    def _chain(self, part: Callable[[], _Node], *signs: str) -> _Node:
        first = part()
        rest: list[tuple[str, _Node]] = []
        while (sign := self._take(*signs)) is not None:
            rest.append((sign, part()))
        return _Chain(first, tuple(rest)) if rest else first

    def _signed(self) -> _Node:
        negative = False
        while (sign := self._take("+", "-")) is not None:
            negative ^= sign == "-"
        node = self._power()
        return _Call(float.__neg__, (_Call(float, (node,)),)) if negative else node

    def _power(self) -> _Node:
        """A power binds more tightly than a sign before it, and from the right."""
        base = self._atom()
        if self._take("^") is None:
            return base
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FormulaError(f"it is nested deeper than {MAX_DEPTH} levels.")
        exponent = self._signed()
        self._depth -= 1
        return _Call(math.pow, (base, exponent))

    def _atom(self) -> _Node:
        kind, text = self._peek()
        if self._take("(") is not None:
            inside = self._sum()
            self._need(")")
            return inside
        self._position += 1
        if kind == "number":
            return float(text)
        if kind == "name":
            return self._called(text) if self._peek() == ("sign", "(") else self._named(text)
        if not kind:
            raise FormulaError("it ends where a number or a name should follow.")
        raise FormulaError(f"{text!r} is not expected there.")

    def _named(self, name: str) -> str:
        self._names.append(name)
        return name

    def _called(self, name: str) -> _Call:
        function = _FUNCTIONS.get(name)
        if function is None:
            raise FormulaError(f"{name!r} is no function; there is {', '.join(_FUNCTIONS)}.")
        self._need("(")
        arguments = [self._sum()]
        while self._take(",") is not None:
            arguments.append(self._sum())
        self._need(")")
        if len(arguments) != 1 and name not in _SEVERAL:
            raise FormulaError(f"{name} takes one number, not {len(arguments)}.")
        if len(arguments) == 1 and name in _SEVERAL:
            return _Call(float, (arguments[0],))
        return _Call(function, tuple(arguments))
