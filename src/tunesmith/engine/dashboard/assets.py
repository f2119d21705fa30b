"""Static files with a hash of their content in the address: browsers may cache them for ever."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

__all__ = ["StaticAssets", "asset_address"]

_FOLDER = Path(__file__).with_name("static")


@functools.cache
def asset_address(name: str) -> str:
    """Return the address of a file in the folder `static`; it changes with the content."""
    digest = hashlib.sha256((_FOLDER / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


class StaticAssets(StaticFiles):
    """Serves a folder of files that no user can write.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file; one with a version in its address may be cached for a year."""
        response = await super().get_response(path, scope)
        versioned = "v" in parse_qs(scope["query_string"].decode("latin-1"))
        life = "public, max-age=31536000, immutable" if versioned else "no-cache"
        response.headers["cache-control"] = life
        response.headers["x-content-type-options"] = "nosniff"
        return response
