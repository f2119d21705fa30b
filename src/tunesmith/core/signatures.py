"""What users see of an operation: its signature, its docstring, and errors for unknown keywords.

An operation is declared as `def create(self, *, model: str, **params: Unpack[CreateOptions])`.
Users see every option as a keyword parameter with its own text: first those of the declaration,
then the operation's options, then the request options. Texts come from the declaration's
docstring, or else from the "Attributes:" section of the options class. Pure; imports nothing of
the SDK but `RequestOptions`.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from .options import RequestOptions, omit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["describe", "keywords_of", "parameter_texts", "unknown_keyword"]

_REQUEST_OPTIONS = tuple(RequestOptions.__annotations__)
# Wrappers of a flow's return annotation; the value is what users get.
_WRAPPERS = ("Flow[", "PageFlow[", "Emitting[", "AnyStream[")
# Parts of annotations that mean nothing to a user.
_HIDDEN = re.compile(r" \| Omit| \| NotGiven|\[ModeT_co\]")
_ENTRY = re.compile(r"(\w+): ")
_SECTIONS = ("Returns:", "Yields:", "Raises:")


def keywords_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names that a declared operation accepts by keyword."""
    return frozenset(_parameters(function)) - {"self"}


def unknown_keyword(
    owner: object, name: str, given: Iterable[str], known: Iterable[str]
) -> TypeError:
    """Return the error for keywords that an operation does not have.

    Args:
        owner: The object whose operation was called.
        name: The operation's name.
        given: The keywords of the call.
        known: The keywords of the operation.
    """
    import difflib

    names = sorted(known)
    parts: list[str] = []
    unknown = [one for one in given if one not in names]
    for one in unknown:
        close = difflib.get_close_matches(one, names, n=1, cutoff=0.5)
        parts.append(f"{one!r} (did you mean {close[0]!r}?)" if close else f"{one!r}")
    noun = "an unexpected keyword argument" if len(unknown) == 1 else "unexpected keyword arguments"
    extra = (
        " Fields that only your server knows go into extra_body={…}."
        if "extra_body" in names
        else ""
    )
    return TypeError(f"{type(owner).__name__}.{name}() got {noun} {', '.join(parts)}.{extra}")


def describe(
    method: Any,
    function: Callable[..., Any],
    *,
    returns: str = "{}",
    texts: Mapping[str, str] | None = None,
) -> None:
    """Give `method` the name, signature and docstring that users see of a declared operation.

    Args:
        method: The function that users call.
        function: The declaration.
        returns: The return annotation, with {} for the declared value's type.
        texts: Texts of parameters that the declaration's docstring does not describe.
    """
    for attribute in ("__module__", "__name__", "__qualname__"):
        setattr(method, attribute, getattr(function, attribute))
    parameters = _parameters(function)
    declared = str(inspect.signature(function).return_annotation)
    for wrapper in _WRAPPERS:
        if declared.startswith(wrapper):
            declared = declared[len(wrapper) : -1]
    annotation = _shown(returns.format(declared))
    method.__signature__ = inspect.Signature(
        list(parameters.values()), return_annotation=annotation
    )
    names = [name for name in parameters if name != "self"]
    method.__doc__ = _docstring(function, names, {**_request_texts(), **(texts or {})})


def parameter_texts(documented: Any, section: str = "Args:") -> dict[str, str]:
    """Return the texts of a docstring's section by name, each with its continuation lines."""
    return _split(documented.__doc__ or "", section)[1]


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters with `**params: Unpack[Options]` spelt out, request options last."""
    found: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            annotation = _shown(str(parameter.annotation))
            found[name] = parameter if name == "self" else parameter.replace(annotation=annotation)
            continue
        options = _options_of(function, parameter)
        own = [one for one in options if one not in _REQUEST_OPTIONS]
        for one in (*own, *_REQUEST_OPTIONS):
            annotation = _shown(options[one])
            found[one] = inspect.Parameter(
                one, inspect.Parameter.KEYWORD_ONLY, default=omit, annotation=annotation
            )
    return found


def _options_of(function: Callable[..., Any], parameter: inspect.Parameter) -> dict[str, str]:
    """Return the annotations of the TypedDict that `**params` unpacks."""
    name = str(parameter.annotation).removeprefix("Unpack[").removesuffix("]")
    options = function.__globals__[name]
    return {
        field: getattr(kind, "__forward_arg__", str(kind))
        for field, kind in options.__annotations__.items()
    }


def _docstring(
    function: Callable[..., Any], names: list[str], texts: Mapping[str, str]
) -> str | None:
    """Return the docstring with an "Args:" section that describes each of `names`."""
    if function.__doc__ is None:
        return None
    before, own, after = _split(function.__doc__, "Args:")
    merged = {**texts, **own}
    lines = [f"    {name}: {merged[name]}" for name in names if name in merged]
    if not lines:
        return inspect.cleandoc(function.__doc__)
    parts = [before, "\n".join(["Args:", *lines]), after]
    return "\n\n".join(part for part in parts if part)


def _split(docstring: str, section: str) -> tuple[str, dict[str, str], str]:
    """Return what stands before a section, the section's entries, and what stands after it."""
    lines = inspect.cleandoc(docstring).splitlines()
    starts = [place for place, line in enumerate(lines) if line in (section, *_SECTIONS)]
    start = starts[0] if starts else len(lines)
    before = "\n".join(lines[:start]).strip()
    if start == len(lines) or lines[start] != section:
        return before, {}, "\n".join(lines[start:]).strip()
    entries: dict[str, str] = {}
    name = ""
    place = start + 1
    while place < len(lines) and (not lines[place] or lines[place].startswith("    ")):
        line = lines[place]
        entry = _ENTRY.match(line[4:])
        if entry and not line.startswith("     "):
            name = entry[1]
            entries[name] = line[4 + entry.end() :]
        elif line and name:
            entries[name] += f"\n{line}"
        place += 1
    return before, entries, "\n".join(lines[place:]).strip()


class _Annotation(str):
    """An annotation that signatures show without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _shown(annotation: str) -> _Annotation:
    """Return an annotation without the parts that mean nothing to a user."""
    return _Annotation(_HIDDEN.sub("", annotation))


_texts: dict[str, str] = {}


def _request_texts() -> dict[str, str]:
    """Return the texts of the request options, read once."""
    if not _texts:
        _texts.update(parameter_texts(RequestOptions, "Attributes:"))
    return _texts
