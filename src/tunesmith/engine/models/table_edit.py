"""Edits the user's table of base models, `models.toml`, and keeps what people have written in it.

Comments, order and spacing stay. A table is checked as a whole before it replaces the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from tunesmith.atomic import write_atomically

from .catalog import check_table, load_catalog
from .model_errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home

__all__ = ["add_base", "remove_base", "use_for_name"]


def add_base(home: Home, base_id: str, *, hub: str | None = None, path: Path | None = None) -> None:
    """Add a base model to the table: a repository of the hub, or a folder.

    Raises:
        CatalogError: The id is taken, or the table cannot be read.
    """
    if base_id in load_catalog(home).base_ids:
        raise CatalogError(f"A base model is called {base_id!r} already. Choose another name.")
    entry = {"hub": hub} if hub is not None else {"path": str(path)}
    _edit(home, lambda table: table.setdefault("base", tomlkit.table()).update({base_id: entry}))


def use_for_name(home: Home, name: str, base_id: str) -> None:
    """Let `name`, such as "gpt-4o-mini", stand for a base model from now on.

    Raises:
        UnknownModelError: No base model has this id or name.
        CatalogError: The name is that of a base model, or the table cannot be read.
    """
    catalog = load_catalog(home)
    base = catalog.find(base_id)
    if name in catalog.base_ids:
        raise CatalogError(f"{name!r} is a base model itself; another cannot stand for it.")
    is_listed = base.id in catalog.base_ids
    canonical = catalog.canonical_name(name) if name in catalog.names else name

    def change(table: Any) -> None:
        if not is_listed:
            table.setdefault("base", tomlkit.table()).update({base.id: {"hub": base.hub_id}})
        entry = {"base": base.id} | ({"canonical": canonical} if canonical != name else {})
        names = table.setdefault("names", tomlkit.table())
        names[name] = base.id if len(entry) == 1 else _inline(entry)

    _edit(home, change)


def remove_base(home: Home, base_id: str) -> bool:
    """Remove a base model, and the names that stand for it, from the table; return if it was there.

    Raises:
        CatalogError: The table cannot be read.
    """
    if not home.base_model_table.is_file():
        return False
    found = False

    def change(table: Any) -> None:
        nonlocal found
        found = table.get("base", {}).pop(base_id, None) is not None
        names = table.get("names", {})
        for name, entry in list(names.items()):
            if found and (entry if isinstance(entry, str) else entry.get("base")) == base_id:
                del names[name]
        if found and table.get("default") == base_id:
            del table["default"]

    _edit(home, change)
    return found


def _edit(home: Home, change: Any) -> None:
    path = home.base_model_table
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise CatalogError(f"{path} is not valid TOML: {error}.") from None
    change(document)
    changed = tomlkit.dumps(document)
    if changed == text:
        return
    check_table(changed, path)
    home.make_private()
    with write_atomically(path) as file:
        file.write(changed.encode())


def _inline(entry: dict[str, str]) -> Any:
    table = tomlkit.inline_table()
    table.update(entry)
    return table
