"""A source that makes prompt/completion rows of two columns of another source."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.findings import Fault

from .batch import Batch, ListLocations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .batch import Source

__all__ = ["Columns"]

_NAMES_SHOWN: Final = 10


class Columns:
    """Prompt/completion rows made of two columns; numbers and booleans become text.

    Args:
        source: The rows.
        prompt: Name of the column that becomes `prompt`.
        completion: Name of the column that becomes `completion`.
        keep_others: Whether rows keep their other columns. Those called `prompt` or `completion`
            themselves are then called `prompt (2)` and `completion (2)`.
    """

    def __init__(
        self, source: Source, prompt: str, completion: str, *, keep_others: bool = False
    ) -> None:
        self.inner = source
        self.prompt = prompt
        self.completion = completion
        self.keep_others = keep_others
        self.name: str | None = source.name
        self.format: str = source.format
        self.size: int | None = source.size

    def __repr__(self) -> str:
        return f"Columns({self.inner!r}, {self.prompt!r}, {self.completion!r})"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        for batch in self.inner.batches():
            yield self._chosen(batch)

    def _chosen(self, batch: Batch) -> Batch:
        locations = ListLocations(offsets=[])
        chosen = Batch([], locations, batch.lines, faults=list(batch.faults))
        names = (self.prompt, self.completion)
        for index, value in enumerate(batch.values):
            missing = [name for name in names if name not in value]
            if missing:
                location = batch.location(index, f"$.{missing[0]}", _no_column(missing[0], value))
                chosen.faults.append(Fault("missing-field", location, lost=True))
                continue
            row = {"prompt": _text(value[self.prompt]), "completion": _text(value[self.completion])}
            others = [name for name in value if name not in names and _holds_text(value[name])]
            if self.keep_others:
                row |= {_free_name(name, value): value[name] for name in value if name not in names}
            elif others:
                message = f"the text of {', '.join(map(repr, others[:_NAMES_SHOWN]))}"
                location = batch.location(index, f"$.{others[0]}", message)
                chosen.faults.append(Fault("columns-not-read", location))
            chosen.values.append(row)
            locations.lines.append(batch.locations.line(index))
            locations.texts.append(batch.locations.excerpt(index))
            offset = batch.locations.offset(index)
            if offset is None:
                locations.offsets = None
            elif locations.offsets is not None:
                locations.offsets.append(offset)
        return chosen


def _no_column(name: str, value: dict[str, Any]) -> str:
    names = [repr(other) for other in value]
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f"no column {name!r}; there are {', '.join(names[:_NAMES_SHOWN])}{more}"


def _free_name(name: str, value: dict[str, Any]) -> str:
    """Return the name of another column, a new one where it is called prompt or completion."""
    if name not in {"prompt", "completion"}:
        return name
    names = (f"{name} ({number})" for number in count(2))
    return next(other for other in names if other not in value)


def _holds_text(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, bool | int | float) else value
