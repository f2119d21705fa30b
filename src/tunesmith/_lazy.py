"""Public names that are loaded when they are first used, listed once per package.

The list is the package's `if TYPE_CHECKING:` block, which type checkers read as it stands:

    if TYPE_CHECKING:
        from .errors import APIError as APIError
        from .errors import TunesmithError as TunesmithError

        OpenAIError = TunesmithError

    lazy_exports(globals())

At run time the block does not execute. `lazy_exports` finds its imports in the compiled code of
the package's `__init__` and gives the package `__getattr__`, `__dir__` and `__all__` from them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

__all__ = ["lazy_exports", "set_public_module"]


class _Home(NamedTuple):
    """Where a public name is defined."""

    module: str
    attribute: str


# For each package its public names, found when they are first needed.
_exports: dict[str, dict[str, _Home]] = {}
# For each package its compiled code, and the names that its imports have really bound.
_sources: dict[str, tuple[CodeType, frozenset[str]]] = {}
# For each package that needs more libraries: makes the error for one that is missing.
_missing: dict[str, Callable[[], Exception]] = {}


def lazy_exports(namespace: dict[str, Any], missing: Callable[[], Exception] | None = None) -> None:
    """Serve the names of the caller's `if TYPE_CHECKING:` block on first use.

    Call it at the end of a package's `__init__`.

    Args:
        namespace: The package's globals.
        missing: Makes the error to raise where a library of another package is missing.
    """
    package: str = namespace["__name__"]
    code = sys._getframe(1).f_code  # noqa: SLF001 - the way to a module's own code
    _sources[package] = code, frozenset(namespace)
    if missing is not None:
        _missing[package] = missing

    def module_getattr(name: str) -> Any:
        exports = _exports_of(package)
        if name == "__all__":
            return sorted(exports)
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = exports[name]
        value = _load(package, home)
        namespace[name] = value
        return value

    namespace["__getattr__"] = module_getattr
    namespace["__dir__"] = lambda: sorted(_exports_of(package))


def set_public_module(namespace: dict[str, Any], package: str = "tunesmith") -> None:
    """Set `__module__` of the classes that `package` exports from the caller's module.

    Tracebacks, pickles and `repr` then name a class as users import it. Call it at the end of
    the module that defines the classes.

    Args:
        namespace: The globals of that module.
        package: The package that exports its classes.
    """
    for home in _exports_of(package).values():
        if home.module == namespace["__name__"]:
            value = namespace[home.attribute]
            if isinstance(value, type):
                value.__module__ = package


def _load(package: str, home: _Home) -> Any:
    name = f"{package}.{home.attribute}" if home.module == package else home.module
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if package not in _missing or (error.name or "").partition(".")[0] == "tunesmith":
            raise
        failure = _missing[package]()
        raise failure from None
    return module if home.module == package else getattr(module, home.attribute)


def _exports_of(package: str) -> dict[str, _Home]:
    if package not in _exports:
        import_module(package)
        code, bound = _sources[package]
        _exports[package] = {
            name: home
            for name, home in _imports(code, package).items()
            if name not in bound and not name.startswith("_")
        }
    return _exports[package]


def _imports(code: CodeType, package: str) -> dict[str, _Home]:
    """Return each name that imports and assignments of imported names bind, with its home."""
    import dis  # noqa: PLC0415 - `inspect` has loaded it by the time that a name is used

    found: dict[str, _Home] = {}
    constants: list[Any] = [None, None]
    module = attribute = loaded = ""
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_NAME":
            loaded = step.argval
        elif step.opname.startswith("LOAD_"):
            constants = [constants[1], step.argval]
        elif step.opname == "IMPORT_NAME":
            # The level of a relative import and the imported names have just been loaded.
            level = constants[0]
            base = package.rsplit(".", level - 1)[0] if level else ""
            module = ".".join(part for part in (base, step.argval) if part)
        elif step.opname == "IMPORT_FROM":
            attribute = step.argval
        elif step.opname.startswith("STORE_"):
            if attribute:
                found[step.argval] = _Home(module, attribute)
            elif loaded in found:
                found[step.argval] = found[loaded]
            attribute = loaded = ""
    return found
