"""Rules of a message's content: a text, or parts of text, image and refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.json_types import is_array, is_object

from . import images
from .problem import Problem, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["problems"]

_PARTS: Final = {
    "system": frozenset({"text"}),
    "developer": frozenset({"text"}),
    "user": frozenset({"text", "image_url", "input_audio", "file"}),
    "assistant": frozenset({"text", "refusal"}),
    "tool": frozenset({"text"}),
}
_UNTRAINABLE: Final = frozenset({"input_audio", "file"})


def problems(
    message: dict[str, Any], path: str, role: str, *, optional: bool = False
) -> Iterator[Problem]:
    """Yield the problems of `message["content"]`.

    Args:
        message: The message.
        path: Its JSON path.
        role: Its role.
        optional: Whether the content may be absent, because the message has a call or a refusal.
    """
    content_path = f"{path}.content"
    content = message.get("content")
    if content is None:
        yield from _absent(message, content_path, role, optional=optional)
    elif isinstance(content, str):
        if not content.strip() and not optional:
            yield Problem(
                "content-empty", content_path, f"the content of a {role} message is empty"
            )
    elif is_array(content) and role in _PARTS:
        if not content:
            yield Problem("field-type", content_path, "'content' must have at least one part")
        for position, part in enumerate(content):
            yield from _part(part, f"{content_path}[{position}]", role)
    else:
        yield Problem(
            "field-type", content_path, f"'content' must be a string, not {describe(content)}"
        )


def _absent(
    message: dict[str, Any], content_path: str, role: str, *, optional: bool
) -> Iterator[Problem]:
    if role == "function" and "content" in message:
        return
    if role == "assistant":
        if not optional:
            yield Problem(
                "content-missing",
                content_path,
                "an assistant message needs 'content' unless it makes a call or refuses",
            )
        return
    yield Problem("content-missing", content_path, f"a {role} message needs 'content'")


def _part(part: Any, part_path: str, role: str) -> Iterator[Problem]:
    if not is_object(part):
        yield Problem("field-type", part_path, f"a part must be an object, not {describe(part)}")
        return
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _PARTS[role]:
        allowed = ", ".join(sorted(_PARTS[role] - _UNTRAINABLE))
        shown = repr(kind) if isinstance(kind, str) else describe(kind)
        yield Problem(
            "part-type",
            f"{part_path}.type",
            f"a {role} message has a part of type {shown}; it must be one of {allowed}",
        )
    elif kind in {"text", "refusal"}:
        if not isinstance(part.get(kind), str):
            yield Problem(
                "missing-field", f"{part_path}.{kind}", f"a {kind} part needs a {kind!r} string"
            )
    elif kind == "image_url":
        image = part.get("image_url")
        if not is_object(image) or not isinstance(image.get("url"), str):
            yield Problem(
                "missing-field",
                f"{part_path}.image_url.url",
                "an image part needs {'image_url': {'url': …}}",
            )
        else:
            yield from images.problems(image, f"{part_path}.image_url")
    else:
        yield Problem("part-untrainable", part_path, f"{kind!r} parts are not used in fine-tuning")
