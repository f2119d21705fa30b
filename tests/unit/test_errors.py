"""The exception tree that `tunesmith.errors` draws in its docstring is the real one."""

from __future__ import annotations

import re

import tunesmith
from tunesmith import errors

NODE = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+)")


def drawn_tree() -> list[tuple[str, str]]:
    """Return the pairs of class and base class that the docstring draws."""
    stack = ["TunesmithError"]
    pairs = []
    for line in (errors.__doc__ or "").splitlines():
        node = NODE.match(line)
        if node is not None:
            depth = len(node["indent"]) // 4 + 1
            del stack[depth:]
            pairs.append((node["name"], stack[-1]))
            stack.append(node["name"])
    return pairs


def test_the_drawn_tree_is_complete_and_true():
    pairs = drawn_tree()
    for name, base in pairs:
        assert getattr(errors, base) in getattr(errors, name).__bases__
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert classes == {"TunesmithError", *(name for name, _ in pairs)}


def test_every_error_of_the_tree_can_be_imported_from_both_places():
    for name in ("TunesmithError", *(name for name, _ in drawn_tree())):
        assert getattr(tunesmith, name) is getattr(errors, name)
        assert name in errors.__all__
        assert name in tunesmith.__all__
