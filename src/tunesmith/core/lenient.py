"""Reading answers of servers that are careless about bookkeeping.

An answer is validated as it stands first. Only where that fails is it read again here: a null
where a value belongs counts as absent, a number where text belongs becomes text, each model
mends what its own fields are known for (`_mended`), and what is unreadable in a field that does
not matter to the answer (`_essential` names those that do) is left out. Whatever then still
fails cannot be read. Knows neither requests nor which models there are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, get_args

from .logs import logger

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    ModelT = TypeVar("ModelT", bound=BaseModel)

__all__ = ["describe_ids", "parse_json", "read_again", "read_json"]

_ROUNDS = 4
_MAX_IDS = 5
_MAX_ID_LENGTH = 80
# A pair of surrogates, a lone one, or any other escape, which the first two must not begin in.
_SURROGATES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


class _Field(NamedTuple):
    nullable: bool
    has_default: bool
    model: type[BaseModel] | None


class _Place(NamedTuple):
    """A value inside an answer: where it hangs, and the model whose field it is, if any."""

    parent: Any
    key: Any
    model: type[BaseModel] | None


def read_json(model: type[ModelT], data: bytes) -> ModelT:
    """Return JSON text as a `model`, mended where needed.

    Raises:
        ValueError: It is not JSON.
        pydantic.ValidationError: It is JSON, but no `model` (a kind of ValueError, too).
    """
    from pydantic import ValidationError

    try:
        return model.model_validate_json(data)
    except ValidationError:
        return read_again(model, parse_json(data))


def parse_json(data: bytes) -> Any:
    """Return the value of JSON text.

    Bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD, as servers that cut
    their text between tokens send them; a byte order mark and raw control characters pass.

    Raises:
        ValueError: It is not JSON.
    """
    text = data.decode("utf-8-sig", "replace")
    if "\\u" in text:
        text = _SURROGATES.sub(
            lambda found: "\\ufffd" if found["lone"] is not None else found[0], text
        )
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_again(model: type[ModelT], content: Any) -> ModelT:
    """Return JSON content that failed validation as a `model`, mended.

    Raises:
        pydantic.ValidationError: It cannot be mended.
    """
    from pydantic import ValidationError

    for round_ in range(_ROUNDS):
        filled: list[tuple[tuple[Any, ...], set[str]]] = []
        mended = _mend(model, content, 0, (), filled)
        try:
            value = model.model_validate(mended)
        except ValidationError as error:
            if round_ + 1 == _ROUNDS or not _fix(model, mended, error):
                raise
            content = mended
            continue
        _mark_unset(value, filled)
        return value
    raise AssertionError


def describe_ids(content: Any) -> str:
    """Return the ids that stand in an answer, the outermost first, as text for an error."""
    found: list[str] = []
    pending: list[tuple[str, Any]] = [("", content)]
    # Breadth first: what identifies the answer itself precedes what it contains.
    while pending and len(found) < _MAX_IDS:
        path, value = pending.pop(0)
        if isinstance(value, Mapping):
            fields: Mapping[Any, Any] = value
            items = [(str(key), item) for key, item in fields.items()]
            items.sort(key=lambda pair: pair[0] != "id")
            for key, item in items:
                where = f"{path}.{key}" if path else key
                if isinstance(item, Mapping | list):
                    pending.append((where, item))
                elif _is_id(key) and isinstance(item, str | int) and item not in {"", True, False}:
                    found.append(f"{where} {str(item)[:_MAX_ID_LENGTH]!r}")
        elif isinstance(value, list):
            values: list[Any] = value
            pending += [(f"{path}[{n}]", item) for n, item in enumerate(values[:_MAX_IDS])]
    return ", ".join(found[:_MAX_IDS])


def _is_id(key: str) -> bool:
    return key in {"id", "fine_tuned_model"} or key.endswith(("_id", "_file"))


@lru_cache(maxsize=256)
def _fields(model: type[BaseModel]) -> dict[str, _Field]:
    """Return what mending needs to know of a model's fields."""
    fields: dict[str, _Field] = {}
    for name, info in model.model_fields.items():
        parts = list(_parts(info.annotation))
        nested = next((part for part in parts if hasattr(part, "model_fields")), None)
        fields[name] = _Field(type(None) in parts, not info.is_required(), nested)
    return fields


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all those that it is made of."""
    yield annotation
    if not hasattr(annotation, "model_fields"):
        for part in get_args(annotation):
            yield from _parts(part)


def _mend(
    model: type[BaseModel],
    content: Any,
    position: int,
    path: tuple[Any, ...],
    filled: list[tuple[tuple[Any, ...], set[str]]],
) -> Any:
    """Return the content of one object, mended; `filled` notes fields that were added."""
    mended_by_model: Any = getattr(model, "_mended", None)
    mended = mended_by_model(content, position) if mended_by_model is not None else content
    if not isinstance(mended, Mapping):
        return mended
    known = cast("Mapping[str, Any]", mended)
    sent: Any = content if isinstance(content, Mapping) else {}
    added = {name for name in known if sent.get(name) is None and known[name] is not None}
    if added:
        filled.append((path, added))
    result = dict(known)
    for name, field in _fields(model).items():
        value = result.get(name, ...)
        if value is None and field.has_default and not field.nullable:
            del result[name]
        elif field.model is not None and isinstance(value, list):
            items: list[Any] = value
            result[name] = [
                _mend(field.model, item, place, (*path, name, place), filled)
                for place, item in enumerate(item for item in items if item is not None)
            ]
        elif field.model is not None and value is not ... and value is not None:
            result[name] = _mend(field.model, value, 0, (*path, name), filled)
    return result


def _mark_unset(value: Any, filled: list[tuple[tuple[Any, ...], set[str]]]) -> None:
    """Take fields that the server did not send out of `model_fields_set`."""
    for path, names in filled:
        place = value
        for step in path:
            place = place[step] if isinstance(step, int) else getattr(place, step)
        place.__pydantic_fields_set__.difference_update(names & type(place).model_fields.keys())


def _fix(model: type[BaseModel], content: Any, error: ValidationError) -> bool:
    """Repair, in place, all that an error names; return False if that is not possible."""
    # A value that may have several forms has a fault for each of them.
    faults: dict[tuple[int, Any, bool], tuple[list[_Place], list[str]]] = {}
    for fault in error.errors(include_url=False, include_input=False):
        trail = _trail(model, content, fault["loc"])
        if not trail:
            return False
        key = (id(trail[-1].parent), trail[-1].key, fault["type"] == "missing")
        faults.setdefault(key, (trail, []))[1].append(fault["type"])
    return all(
        any(_converted(trail[-1], kind) for kind in kinds) or _left_out(trail)
        for trail, kinds in faults.values()
    )


def _trail(model: type[BaseModel], content: Any, location: tuple[int | str, ...]) -> list[_Place]:
    """Return the places on the way to a fault, as far as there are values."""
    trail: list[_Place] = []
    owner: type[BaseModel] | None = model
    value = content
    for step in location:
        if isinstance(value, dict) and step in value:
            field = _fields(owner).get(str(step)) if owner is not None else None
            trail.append(_Place(cast("Any", value), step, owner if field is not None else None))
            owner = field.model if field is not None else None
        elif isinstance(value, list) and isinstance(step, int):
            trail.append(_Place(cast("Any", value), step, None))
        else:
            break
        value = trail[-1].parent[step]
    return trail


def _converted(place: _Place, fault: str) -> bool:
    """Replace a value that only has the wrong type; return whether it could be."""
    value = place.parent[place.key]
    new: Any = None
    if fault == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        new = str(value)
    elif fault.startswith("int") and isinstance(value, float) and math.isfinite(value):
        new = int(value)
    elif fault.startswith("int") and isinstance(value, str):
        new = _seconds(value)
    if new is None:
        return False
    place.parent[place.key] = new
    return True


def _seconds(text: str) -> int | None:
    """Return the Unix time of a date as text, or the whole part of a number."""
    for read in (float, lambda date: datetime.fromisoformat(date).timestamp()):
        try:
            return int(read(text))
        except (ValueError, OverflowError):
            continue
    return None


def _left_out(trail: list[_Place]) -> bool:
    """Remove the innermost value on the way to a fault that the answer does not depend on."""
    for place in reversed(trail):
        if place.model is not None:
            essential: frozenset[str] | None = getattr(place.model, "_essential", None)
            if essential is None or place.key in essential:
                return False
            logger.debug("%s.%s cannot be read and is left out.", place.model.__name__, place.key)
        elif not isinstance(place.parent, dict) or place.parent.get(place.key, ...) is not None:
            continue
        place.parent.pop(place.key, None)
        return True
    return False
