"""The catalog of base models: which exist, which names stand for them, where their files are.

The catalog is data: `default_models.toml`, shipped in the package, overlaid by the user's
`models.toml` in the state folder. A name of the hosted service (`ada`, `gpt-4o-mini`) stands
for a model of this catalog; a hub id (`organisation/model`) stands for itself. A request never
names a folder: only the catalog does.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import pydantic

from tunesmith.engine.domain.answer_syntax import CALL_NAMES, THINKING_NAMES

from .model_errors import CatalogError, ModelNotInstalledError, UnknownModelError
from .model_info import BaseModel, BaseModelFacts, PinnedWheel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from tunesmith.engine.home import Home

__all__ = ["Catalog", "check_table", "load_catalog"]

_SNAPSHOT = re.compile(r"(?P<name>.+)-(?:\d{4}-\d{2}-\d{2}|\d{4})")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FileName: TypeAlias = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][\w.-]*$")]
_Sha256: TypeAlias = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class _BaseEntry(BaseModelFacts):
    hub: str | None = pydantic.Field(default=None, pattern=f"^{_HUB_ID.pattern}$")
    revision: str | None = None
    files: dict[_FileName, _Sha256] | None = None
    path: str | None = None
    wheel: PinnedWheel | None = None
    thinking: str | None = None
    tool_calls: str | None = None

    @pydantic.field_validator("thinking", "tool_calls")
    @classmethod
    def _is_known(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        known = THINKING_NAMES if info.field_name == "thinking" else CALL_NAMES
        if value is not None and value not in known:
            msg = f"{value!r} is none of: {', '.join(known)}"
            raise ValueError(msg)
        return value

    @pydantic.model_validator(mode="after")
    def _has_one_source(self) -> _BaseEntry:
        if (self.hub is None) == (self.path is None):
            msg = "give either `hub` or `path`"
            raise ValueError(msg)
        if self.files is not None and not (self.revision and _COMMIT.fullmatch(self.revision)):
            msg = "`files` are those of one commit: give its 40 digits as `revision`"
            raise ValueError(msg)
        return self


class _NameEntry(pydantic.BaseModel):
    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(frozen=True, extra="forbid")

    base: str | None = None
    canonical: str | None = None


class _Table(pydantic.BaseModel):
    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(frozen=True, extra="forbid")

    default: str | None = None
    base: dict[str, _BaseEntry] = {}
    names: dict[str, _NameEntry] = {}

    @pydantic.field_validator("names", mode="before")
    @classmethod
    def _strings_name_the_base(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"base": entry} if isinstance(entry, str) else entry
            for name, entry in value.items()
        }


class Catalog:
    """The base models and the names that stand for them. Made by `load_catalog`."""

    def __init__(self, table: _Table, home: Home) -> None:
        self._table = table
        self._home = home

    @property
    def base_ids(self) -> list[str]:
        """Ids of the base models."""
        return sorted(self._table.base)

    @property
    def names(self) -> list[str]:
        """The other names that stand for them, without dated snapshots."""
        return sorted(self._table.names)

    def names_by_base(self) -> dict[str, list[str]]:
        """Return the other names that stand for each base model, by its id."""
        names: dict[str, list[str]] = {}
        for name in self.names:
            names.setdefault(self.find(name).id, []).append(name)
        return names

    def default(self) -> BaseModel:
        """Return the installed base model that answers where a request cannot name one.

        Raises:
            UnknownModelError: The table names no default, and not exactly one is installed.
        """
        installed = [base for base in self.bases() if base.installed]
        chosen = [base for base in installed if base.id == self._table.default] or installed
        if len(chosen) != 1:
            names = ", ".join(base.id for base in installed) or "none is installed"
            raise UnknownModelError(f"Name a base model: {names}.")
        return chosen[0]

    def bases(self) -> list[BaseModel]:
        """Return every base model of the catalog, and each pulled one that is not in it."""
        listed = [self._from_table(base_id) for base_id in self.base_ids]
        paths = {base.path for base in listed}
        pulled = [
            self._from_hub(folder.name.replace("--", "/", 1))
            for folder in sorted(self._home.base_models.glob("*--*"))
            if folder.is_dir() and folder not in paths and not folder.name.startswith(".")
        ]
        return [*listed, *pulled]

    def find(self, name: str) -> BaseModel:
        """Return the base model that `name` stands for, on this machine or not.

        Raises:
            UnknownModelError: The name is unknown.
        """
        base_id = self._base_id(name)
        if base_id is not None:
            return self._from_table(base_id)
        if _HUB_ID.fullmatch(name):
            return self._from_hub(name)
        msg = (
            f"No base model is called {name!r}. Base models: {', '.join(self.base_ids)}. "
            f"Other names that stand for one: {', '.join(self.names)}, and their dated snapshots. "
            "A model of the hub is named like organisation/model. More names can be added to "
            f"{self._home.base_model_table}."
        )
        raise UnknownModelError(msg)

    def resolve(self, name: str) -> BaseModel:
        """Return the base model that `name` stands for, which is on this machine.

        Raises:
            UnknownModelError: The name is unknown; the message lists the known names.
            ModelNotInstalledError: The model is not installed; the message says how to get it.
        """
        base = self.find(name)
        if base.installed:
            return base
        if base.hub_id is None:
            msg = (
                f"The base model {base.id!r} should be in {base.path}, but that folder has no "
                "config.json with safetensors weights and tokenizer.json. Put the model there, "
                f"or correct its path in {self._home.base_model_table}."
            )
        else:
            label = base.id if base.id == name else f"{base.id} (for {name!r})"
            msg = (
                f"The base model {label} is not on this machine yet. "
                f"Run: tunesmith models pull {base.id}"
            )
        raise ModelNotInstalledError(msg)

    def canonical_name(self, name: str) -> str:
        """Return the name that a job echoes for `name`: the hosted service's dated one.

        Raises:
            UnknownModelError: The name is unknown.
        """
        self.find(name)
        entry = self._table.names.get(name)
        return entry.canonical if entry and entry.canonical else name

    def _base_id(self, name: str) -> str | None:
        if name in self._table.base:
            return name
        for base_id, base in self._table.base.items():
            if base.hub == name:
                return base_id
        entry = self._table.names.get(name)
        if entry is None and (snapshot := _SNAPSHOT.fullmatch(name)):
            entry = self._table.names.get(snapshot["name"])
        if entry is None:
            return None
        return entry.base or self._table.default

    def _from_table(self, base_id: str) -> BaseModel:
        entry = self._table.base[base_id]
        if entry.path is not None:
            path = self._home.base_model_table.parent / Path(entry.path).expanduser()
        else:
            path = self._home.base_models / base_id.replace("/", "--")
        return BaseModel(
            id=base_id,
            path=path,
            hub_id=entry.hub,
            installed=_contains_model(path),
            revision=entry.revision,
            files=entry.files,
            wheel=entry.wheel,
            thinking_syntax=entry.thinking,
            call_syntax=entry.tool_calls,
            facts=BaseModelFacts.model_validate(
                entry.model_dump(include=set(BaseModelFacts.model_fields))
            ),
        )

    def _from_hub(self, hub_id: str) -> BaseModel:
        path = self._home.base_models / hub_id.replace("/", "--")
        return BaseModel(id=hub_id, path=path, hub_id=hub_id, installed=_contains_model(path))


def load_catalog(home: Home) -> Catalog:
    """Return the catalog of base models: the built-in one overlaid by the user's.

    Raises:
        CatalogError: The user's table is not TOML, or is not valid.
    """
    path = home.base_model_table
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return Catalog(check_table(text, path), home)


def check_table(text: str, source: Path) -> _Table:
    """Return the built-in table overlaid by the user's, after checking it.

    Args:
        text: The user's table, TOML.
        source: Its path, for messages.

    Raises:
        CatalogError: It is not TOML, or is not valid.
    """
    table = _built_in_table()
    user = _parse(text, str(source))
    merged = _Table(
        default=user.default or table.default,
        base=table.base | user.base,
        names=table.names | user.names,
    )
    _check_references(merged, source)
    return merged


@cache
def _built_in_table() -> _Table:
    built_in = files("tunesmith.engine.models").joinpath("default_models.toml")
    return _parse(built_in.read_text(encoding="utf-8"), "default_models.toml")


def _parse(text: str, source: str) -> _Table:
    try:
        return _Table.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        msg = f"{source} is not valid TOML: {error}."
        raise CatalogError(msg) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        msg = f"{source}: {key or 'the table'}: {first['msg']}.{_allowed_keys(first)}"
        raise CatalogError(msg) from None


def _allowed_keys(error: ErrorDetails) -> str:
    """Return the keys that may stand where an unknown one does."""
    if error["type"] != "extra_forbidden":
        return ""
    kinds: dict[str, type[pydantic.BaseModel]] = {"base": _BaseEntry, "names": _NameEntry}
    is_at_top = len(error["loc"]) == 1
    model = _Table if is_at_top else kinds.get(str(error["loc"][0]))
    return f" Allowed are: {', '.join(sorted(model.model_fields))}." if model else ""


def _check_references(table: _Table, source: Path) -> None:
    references = {"default": table.default} | {
        f"names.{name}": entry.base for name, entry in table.names.items()
    }
    for key, base_id in references.items():
        if base_id is not None and base_id not in table.base:
            msg = (
                f"{source}: {key}: no base model is called {base_id!r}; "
                f"the table has {', '.join(sorted(table.base))}."
            )
            raise CatalogError(msg)


def _contains_model(folder: Path) -> bool:
    return (
        (folder / "config.json").is_file()
        and (folder / "tokenizer.json").is_file()
        and any(folder.glob("*.safetensors"))
    )
