"""Rules of an image in a chat row: where it is, what it is, and how large.

Sources: the vision fine-tuning guides of OpenAI and of Azure, and together's check of files: an
address or base64 data, JPEG, PNG or WEBP, at most 10 MB. How many images a row may have depends on
the destination: see `checks.images`. Addresses are not visited.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from .problem import Problem, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["problems"]

_DETAILS: Final = ("auto", "low", "high")
_MAX_BYTES: Final = 10 * 1024 * 1024
_DATA: Final = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_KINDS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


def problems(image: dict[str, Any], path: str) -> Iterator[Problem]:
    """Yield the problems of `image_url`, whose `url` is known to be a string."""
    url: str = image["url"]
    detail = image.get("detail", "auto")
    if detail not in _DETAILS:
        shown = repr(detail) if isinstance(detail, str) else describe(detail)
        yield Problem(
            "image-detail",
            f"{path}.detail",
            f"'detail' must be one of {', '.join(_DETAILS)}, not {shown}",
        )
    if url[:5].lower() == "data:":
        yield from _data_problems(url, f"{path}.url")
    elif not url.lower().startswith(("https://", "http://")):
        yield Problem(
            "image-source",
            f"{path}.url",
            f"{url[:60]!r} is neither an address (https://…) nor data (data:image/png;base64,…); "
            "files on this machine cannot be read there",
        )


def _data_problems(url: str, path: str) -> Iterator[Problem]:
    match = _DATA.match(url)
    if match is None or not match[2].lower().endswith(";base64"):
        yield Problem("image-source", path, "the data is not 'data:image/<type>;base64,<data>'")
        return
    kind = match[1].lower()
    if kind not in _KINDS:
        allowed = ", ".join(_KINDS)
        yield Problem("image-type", path, f"the image is {kind!r}; it must be one of {allowed}")
        return
    start = match.end()
    size = (len(url) - start) * 3 // 4 - url[-2:].count("=")
    if size > _MAX_BYTES:
        yield Problem("image-size", path, f"the image has {size:,} bytes, more than {_MAX_BYTES:,}")
        return
    try:
        # The whole text is decoded: an error may be anywhere in it.
        content = base64.b64decode(url[start:], validate=True)
    except (binascii.Error, ValueError) as error:
        yield Problem("image-source", path, f"the data is not valid base64: {error}")
        return
    found = _kind_of(content)
    if found and found != kind:
        yield Problem("image-type", path, f"the data is {found!r}, but is called {kind!r}")
    elif not found:
        yield Problem("image-type", path, f"the data is not {_KINDS[kind]}")


def _kind_of(content: bytes) -> str:
    """Return the type that the first bytes show, or ""."""
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if content[:4] == b"GIF8" else ""
