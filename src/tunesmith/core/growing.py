"""Values that arrive in pieces: texts that grow, lists that are appended to, objects of both.

A tree of them takes each piece in constant time. `frozen` notes what the tree holds at a moment
without copying its texts, and `plain` makes ordinary data of that, later and only where somebody
asks. So a stream of n pieces costs n steps, and still every moment of it can be looked at. Knows
nothing of what the fields mean, except which ones a server repeats instead of continuing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["GrowingList", "GrowingText", "frozen", "joined_name", "merge", "moment", "plain"]

# Texts that are sent whole; a second one repeats or replaces the first.
_WHOLE = frozenset(
    {"created", "expires_at", "format", "id", "index", "model", "name", "object", "role", "status"}
    | {"type"}
)


class GrowingText:
    """A text in pieces."""

    __slots__ = ("_count", "_joined", "pieces")

    def __init__(self, *pieces: str) -> None:
        self.pieces: list[str] = list(pieces)
        self._joined = ""
        self._count = 0

    def until(self, count: int) -> str:
        """Return the text of the first `count` pieces; the latest one asked for is remembered."""
        if count < self._count:
            return "".join(self.pieces[:count])
        if count > self._count:
            self._joined += "".join(self.pieces[self._count : count])
            self._count = count
        return self._joined

    def __str__(self) -> str:
        return self.until(len(self.pieces))

    def __bool__(self) -> bool:
        return any(self.pieces)


class GrowingList:
    """A list to which items are added; items with an `index` of their own grow themselves."""

    __slots__ = ("by_index", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.by_index: dict[int, dict[str, Any]] = {}

    def extend(self, values: list[Any]) -> None:
        """Add items, or continue those with the same index."""
        for value in values:
            index = _index_of(value)
            if index is None:
                self.items.append(value)
                continue
            known = self.by_index.get(index)
            if known is None:
                known = self.by_index[index] = {}
                self.items.append(known)
            for name, piece in value.items():
                merge(known, name, piece)


class _Moment(NamedTuple):
    """The length of a text or a list at a moment."""

    of: GrowingText | list[Any]
    length: int


def merge(tree: dict[str, Any], name: str, piece: Any, *, grows: bool = True) -> None:
    """Add one field of a piece to an object.

    Args:
        tree: The object so far.
        name: The field.
        piece: Its value in the piece, plain data; None changes nothing.
        grows: Whether texts continue; False where each piece has the whole text.
    """
    known = tree.get(name)
    if piece is None:
        tree.setdefault(name, None)
    elif isinstance(piece, dict):
        inner: dict[str, Any] = known if isinstance(known, dict) else {}
        tree[name] = inner
        fields: dict[str, Any] = piece
        for key, value in fields.items():
            merge(inner, key, value, grows=grows)
    elif isinstance(piece, list):
        if not isinstance(known, GrowingList):
            known = tree[name] = GrowingList()
        known.extend(piece)
    elif not isinstance(piece, str) or not grows or name in _WHOLE:
        # An empty text is what some servers send in place of nothing.
        if piece != "" or known is None:
            tree[name] = piece
    elif isinstance(known, GrowingText):
        known.pieces.append(piece)
    else:
        tree[name] = GrowingText(piece)


def joined_name(known: str, piece: str | None) -> str:
    """Return a name after one more piece: sent again, sent from its start, or continued."""
    if not piece or piece == known:
        return known
    return piece if piece.startswith(known) else known + piece


def frozen(value: Any) -> Any:
    """Return what a tree holds now, for `plain`."""
    if isinstance(value, GrowingText):
        return _Moment(value, len(value.pieces))
    if isinstance(value, GrowingList):
        if value.by_index:
            return [frozen(item) for item in value.items]
        return moment(value.items)
    if isinstance(value, dict):
        fields: dict[str, Any] = value
        return {name: frozen(item) for name, item in fields.items()}
    return value


def moment(items: list[Any]) -> Any:
    """Return what a list that is only appended to holds now, for `plain`."""
    return _Moment(items, len(items))


def plain(value: Any) -> Any:
    """Return what `frozen` noted as ordinary data."""
    if isinstance(value, _Moment):
        if isinstance(value.of, GrowingText):
            return value.of.until(value.length)
        return value.of[: value.length]
    if isinstance(value, dict):
        fields: dict[str, Any] = value
        return {name: plain(item) for name, item in fields.items()}
    if isinstance(value, list):
        items: list[Any] = value
        return [plain(item) for item in items]
    return value


def _index_of(value: Any) -> int | None:
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    index = fields.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else None
