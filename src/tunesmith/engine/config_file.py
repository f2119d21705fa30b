"""Settings from a TOML file: fields of `EngineConfig`; and the tables of `_TABLES`.

`[upstreams.NAME]` is a table for each other service; `upstreams.toml` in the state folder, which
only its owner may read, has such tables, too, as `[NAME]`.

    port = 9000
    max_concurrent_jobs = 2

    [limits]
    file_bytes = 104857600

By default `engine.toml` in the state folder is read, if it exists.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pydantic

from .config import (
    EngineConfig,
    Limits,
    MigrateConfig,
    PythonGraders,
    RayConfig,
    ServingConfig,
    UpstreamConfig,
)
from .domain.errors import EngineError
from .home import Home

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_config", "read_upstreams"]

_Table = Limits | ServingConfig | RayConfig | PythonGraders | MigrateConfig
_TABLES: dict[str, type[_Table]] = {
    "limits": Limits,
    "serving": ServingConfig,
    "ray": RayConfig,
    "python_graders": PythonGraders,
    "migrate": MigrateConfig,
}


def load_config(
    home: Home | None = None, path: Path | None = None, **settings: Any
) -> EngineConfig:
    """Return the engine's settings.

    Args:
        home: The state folder; default as `Home.from_environment` finds it.
        path: The file; default `engine.toml` in the state folder, if it exists.
        settings: Fields that override the file's.

    Raises:
        EngineError: The file cannot be read, or contains something that is not a setting.
    """
    home = home or Home.from_environment()
    if path is None:
        path = home.root / "engine.toml"
        settings_in_file = _read(path) if path.is_file() else {}
    else:
        settings_in_file = _read(path)
    tables = {name: settings_in_file.pop(name, {}) for name in _TABLES}
    upstreams = settings_in_file.pop("upstreams", {})
    _check(path, settings_in_file, EngineConfig, without={"home", "upstreams", *_TABLES})
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise EngineError(f"{path}: {name} must be a table, [{name}].")
        _check(path, cast("dict[str, Any]", table), _TABLES[name], prefix=f"{name}.")
    tables["upstreams"] = _upstreams(path, upstreams, prefix="upstreams.")
    return _validated(path, settings_in_file | tables | settings | {"home": home})


def read_upstreams(path: Path) -> dict[str, UpstreamConfig]:
    """Return the other services of `upstreams.toml`.

    Raises:
        EngineError: It cannot be read, others may read it, or it has what is not a setting.
    """
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise EngineError(f"{path} has keys in it, and others may read it: chmod 600 {path}.")
    return _upstreams(path, _read(path))


def _upstreams(path: Path, tables: Any, prefix: str = "") -> dict[str, UpstreamConfig]:
    found: dict[str, UpstreamConfig] = {}
    for name, table in dict(tables).items():
        if not isinstance(table, dict):
            raise EngineError(f"{path}: {prefix}{name} must be a table, [{prefix}{name}].")
        _check(path, cast("dict[str, Any]", table), UpstreamConfig, prefix=f"{prefix}{name}.")
        found[name] = _checked(path, UpstreamConfig, table, f"{prefix}{name}.")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineError(f"The settings {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EngineError(f"The settings {path} are not valid TOML: {error}.") from None


def _check(
    path: Path,
    values: dict[str, Any],
    kind: type[EngineConfig | _Table | UpstreamConfig],
    *,
    without: frozenset[str] | set[str] = frozenset(),
    prefix: str = "",
) -> None:
    known = sorted({field.name for field in dataclasses.fields(kind)} - without)
    for name in values:
        if name not in known:
            raise EngineError(
                f"{path}: {prefix}{name} is not a setting. The settings are {', '.join(known)}."
            )


def _validated(path: Path, values: dict[str, Any]) -> EngineConfig:
    """Return the settings, with each value validated against its declared type."""
    return _checked(path, EngineConfig, values)


_ConfigT = TypeVar("_ConfigT", EngineConfig, UpstreamConfig)


def _checked(path: Path, kind: type[_ConfigT], values: Any, prefix: str = "") -> _ConfigT:
    try:
        checked: _ConfigT = pydantic.TypeAdapter(kind).validate_python(values, strict=False)
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise EngineError(f"{path}: {prefix}{name}: {first['msg']}.") from None
    return checked
