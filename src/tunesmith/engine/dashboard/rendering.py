"""From templates to responses: what every page shares, and the format of times and sizes.

Everything is escaped; no page has an inline script or style, and the content security
policy of each response forbids them.
"""

from __future__ import annotations

import contextlib
import functools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesmith.engine.domain.job import public_id

from .assets import asset_address
from .browser_session import get_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

__all__ = [
    "SECURITY_HEADERS",
    "compile_templates",
    "duration",
    "number",
    "render",
    "size",
]

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

STATUS_LABELS: Mapping[str, str] = {
    "validating_files": "Checking files",
    "queued": "Queued",
    "running": "Running",
    "paused": "Paused",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
}

_MINUTE = 60
_HOUR = 3600
_KILO = 1000


def render(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return a page, or a part of one."""
    session = get_session(request)
    shared = {
        "session": session,
        "key": session.identity,
        "path": request.url.path,
        "origin": f"{request.url.scheme}://{request.url.netloc}",
        "now": time.time(),
        "status_labels": STATUS_LABELS,
    }
    text = _environment().get_template(template).render({**shared, **values})
    return HTMLResponse(text, status)


def compile_templates() -> None:
    """Compile all templates, so that the first page of a cold engine is as fast as the next.

    A template that cannot be opened now, at the limit of open files, is compiled by its page.
    """
    environment = _environment()
    for name in environment.list_templates(extensions=["html"]):
        with contextlib.suppress(OSError):
            environment.get_template(name)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tunesmith.engine.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset_address
    environment.filters |= {
        "instant": _instant,
        "iso": _iso,
        "duration": duration,
        "size": size,
        "count": _count,
        "number": number,
        "escaped": _escaped,
        "visible": _visible,
        "public_id": public_id,
    }
    return environment


def _instant(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """Return a span of time in its two largest units: "1 h 02 min", "41 s"."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def size(number_of_bytes: int) -> str:
    """Return a number of bytes to three digits."""
    value = float(number_of_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _KILO:
            return f"{value:.3g} {unit}"
        value /= _KILO
    return f"{value:.3g} TB"


def _count(value: float) -> str:
    return f"{value:,}"


def number(value: object) -> str:
    """Return a measured number to four digits; a dash where nothing was measured."""
    if value is None or value == "":
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(number(part) for part in cast("list[object]", value))
    return str(value)


def _escaped(value: Any) -> str:
    r"""Return a text in quotes, with its line ends visible: `"\n\n###\n\n"`."""
    text = str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return f'"{text}"'


def _visible(text: str, *, breaks: bool = False) -> str:
    """Return the text of a token with the signs that cannot be seen, and perhaps line breaks."""
    ends = "⏎\n" if breaks else "⏎"
    return text.replace("\r", "␍").replace("\n", ends).replace("\t", "⇥").replace(" ", "·")
