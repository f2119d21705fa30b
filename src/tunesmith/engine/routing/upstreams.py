"""The other services that model names may lead to, by name: from `engine.toml`, and from a file.

The file is read again when it has changed, so that a service can be added to a running engine.
Only `UpstreamClient` uses what is found here; keys go nowhere else.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import TYPE_CHECKING

from tunesmith.engine.config_file import read_upstreams
from tunesmith.engine.domain.errors import EngineError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunesmith.engine.config import UpstreamConfig

__all__ = ["UnknownUpstreamError", "Upstreams", "save_upstream"]


class UnknownUpstreamError(RequestError):
    """The settings have no other service of this name, or cannot be read."""

    param: str | None = "upstream"
    code: str | None = "unknown_upstream"


class Upstreams:
    """Other services by name. Safe to use from several threads.

    Args:
        configured: Those of the engine's settings.
        file: `upstreams.toml`, which need not exist.
    """

    def __init__(self, configured: Mapping[str, UpstreamConfig], file: Path) -> None:
        self._configured = dict(configured)
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._from_file: dict[str, UpstreamConfig] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> UpstreamConfig:
        """Return the settings of another service.

        Raises:
            UnknownUpstreamError: There are none, or the file cannot be read.
        """
        known = self._all()
        try:
            return known[name]
        except KeyError:
            names = ", ".join(sorted(known)) or "none"
            raise UnknownUpstreamError(
                f"The settings name no other service {name!r}; they have: {names}. Add "
                f"[upstreams.{name}] with url and api_key to engine.toml, or [{name}] to "
                f"{self._file.name} beside it, which takes effect at once."
            ) from None

    def names(self) -> list[str]:
        """Return the names, in order."""
        return sorted(self._all())

    def _all(self) -> dict[str, UpstreamConfig]:
        with self._lock:
            try:
                stat = self._file.stat()
            except OSError:
                return self._configured
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_mode)
            if seen != self._seen:
                try:
                    self._from_file = read_upstreams(self._file)
                except (EngineError, OSError) as error:
                    raise UnknownUpstreamError(str(error)) from None
                self._seen = seen
            return self._configured | self._from_file


def save_upstream(file: Path, name: str, upstream: UpstreamConfig) -> None:
    """Write a service into `upstreams.toml`, beside those that it has, for its owner's eyes only.

    Raises:
        EngineError: The file has something else in it than services, or others may read it.
    """
    known = read_upstreams(file) if file.exists() else {}
    lines: list[str] = []
    for title, one in (known | {name: upstream}).items():
        lines.append(f"[{json.dumps(title)}]")
        values = dataclasses.asdict(one).items()
        lines += [f"{key} = {json.dumps(value)}" for key, value in values if value is not None]
        lines.append("")
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
    partial.replace(file)
