"""Every other address that a browser asks for: a page that says so, with a way back."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from starlette.routing import Match

from tunesmith.engine.api.http_errors import ApiError

from .page_routes import PageRoute

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["router"]

# Addresses of programs: what is wrong with them is told as JSON.
_NOT_PAGES = ("/v1/", "/dashboard/v1/", "/openai/", "/static/")


class _MissingPage(PageRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what was typed or clicked in a browser, and no address of a program."""
        path: str = scope.get("path", "")
        accepted = dict(scope.get("headers", ())).get(b"accept", b"")
        if scope["type"] != "http" or path.startswith(_NOT_PAGES) or b"text/html" not in accepted:
            return Match.NONE, {}
        return super().matches(scope)


router: APIRouter = APIRouter(route_class=_MissingPage, include_in_schema=False)


@router.get("/{path:path}")
def missing(request: Request, path: str) -> Response:
    """Say that there is no such page."""
    raise ApiError(
        HTTPStatus.NOT_FOUND,
        f"There is no page {request.url.path[:200]!r} here. "
        + ("Check the address, or begin at one of the pages above." if path else ""),
    )
