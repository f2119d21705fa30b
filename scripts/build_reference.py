"""Write docs/reference/ from the program itself: its command line and its public names.

python scripts/build_reference.py            writes the pages
python scripts/build_reference.py --check    fails if a page is not what it would write
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tunesmith
from tunesmith.cli.connection import OPTIONS
from tunesmith.cli.parser import build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "Written by `scripts/build_reference.py`; a test compares it with the program.\n"
CONNECTION = {name for _, name, _, _ in OPTIONS}
# Every call takes these; the page says so once.
REQUEST = {"extra_headers", "extra_query", "extra_body", "timeout", "idempotency_key"}
ROOMS = ("datasets", "results", "engine", "tracking", "testing")


def command_line() -> Iterator[str]:
    """Yield the lines of the command line's page."""
    root = build_parser()
    yield "# Reference: the command line\n"
    yield NOTE
    yield (
        "[The guide](../guides/command-line.md) tells how the commands go together. Every command "
        "has `--help`. Those of `api` and of the trackers also take the connection options, which "
        "may stand before the command, too:\n"
    )
    yield from table((f"`{s}`, `{n} {m}`", text) for s, n, m, text in OPTIONS)
    yield "```text"
    yield (root.epilog or "").rstrip()
    yield "```\n"
    yield from commands(root, "tunesmith")


def commands(parser: argparse.ArgumentParser, path: str) -> Iterator[str]:
    """Yield a section for each command below a parser, and for those below it."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to look
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            continue
        names: dict[int, list[str]] = {}
        for name, child in action.choices.items():
            names.setdefault(id(child), []).append(name)
        for first, *others in names.values():
            child = action.choices[first]
            if child.epilog is not None:
                yield from command(child, f"{path} {first}", others)
            yield from commands(child, f"{path} {first}")


def command(parser: argparse.ArgumentParser, path: str, others: list[str]) -> Iterator[str]:
    """Yield the section of one command."""
    yield f"## {path}\n"
    spelt = f" Also spelt {', '.join(f'`{name}`' for name in others)}." if others else ""
    yield f"{parser.description}{spelt}\n"
    yield from table(
        (option_names(action), option_help(parser, action))
        for action in parser._actions  # noqa: SLF001
        if "--help" not in action.option_strings and not CONNECTION & set(action.option_strings)
    )
    lines = str(parser.epilog).splitlines()[1:]
    yield "\n".join(["```text", *(line.strip() for line in lines), "```\n"])


def option_names(action: argparse.Action) -> str:
    """Return an option's spellings with what it takes."""
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else None
    name = action.dest.upper() if action.option_strings else action.dest
    taken = action.metavar or choices or name
    value = (
        "" if action.nargs == 0 else f" {' '.join(taken) if isinstance(taken, tuple) else taken}"
    )
    return ", ".join(f"`{name}{value}`" for name in action.option_strings) or f"`{value.strip()}`"


def option_help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return an option's explanation, its default filled in."""
    text = parser._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
    return f"{text} (required)" if action.required and action.option_strings else text


def table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Yield a table of options; nothing if there are none."""
    lines = [f"| {name} | {text.replace('|', '/')} |" for name, text in rows]
    if lines:
        yield "\n".join(["| Option | Meaning |", "|---|---|", *lines, ""])


def api() -> Iterator[str]:
    """Yield the lines of the page of public names."""
    yield "# Reference: public names\n"
    yield NOTE
    options = ", ".join(f"`{name}`" for name in sorted(REQUEST))
    yield (
        "`AsyncClient` has the same operations, awaited. Each operation that sends a request also "
        f"takes {options}. `help()` of a name tells its arguments and errors.\n"
    )
    client = tunesmith.Client(api_key="none")
    yield "## The client\n"
    yield from entry("Client", tunesmith.Client)
    yield ""
    yield from resources(client, "client")
    yield "## tunesmith\n"
    yield from names(tunesmith)
    for room in ROOMS:
        yield f"## tunesmith.{room}\n"
        yield from names(importlib.import_module(f"tunesmith.{room}"))


def resources(owner: object, path: str) -> Iterator[str]:
    """Yield a section for each resource of a client, and for those below it."""
    for name in public(owner):
        value = getattr(owner, name)
        if not type(value).__module__.startswith("tunesmith.resources") or "with_" in name:
            continue
        methods = [one for one in public(value) if inspect.ismethod(getattr(value, one))]
        if methods:
            yield f"### {path}.{name}\n"
            for method in methods:
                yield from entry(method, getattr(value, method))
            yield ""
        yield from resources(value, f"{path}.{name}")


def names(module: Any) -> Iterator[str]:
    """Yield what a module exports, but the client, which has a part of its own, and modules."""
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        if name != "Client" and not inspect.ismodule(value):
            yield from entry(name, value)
    yield ""


def entry(name: str, value: Any) -> Iterator[str]:
    """Yield the item of a name: how it is called and what it is, and a class's methods below it."""
    if not callable(value):
        yield f"- `{name}`"
        return
    is_error = inspect.isclass(value) and issubclass(value, BaseException)
    yield f"- `{name}{'' if is_error else signature(value)}`: {first_line(value)}"
    if not inspect.isclass(value) or is_error or value.__module__ == "tunesmith.client":
        return
    for member in public(value):
        found = vars(value).get(member)
        if isinstance(found, (property, functools.cached_property)):
            yield f"  - `.{member}`: {first_line(found)}"
        elif inspect.isroutine(found):
            called = getattr(value, member)
            yield f"  - `.{member}{signature(called)}`: {first_line(called)}"


def signature(value: Any) -> str:
    """Return a signature without the options of every request; for classes without annotations."""
    try:
        found = inspect.signature(value)
    except ValueError:
        return "(…)"
    left_out = {"self", *(REQUEST if "extra_headers" in found.parameters else ())}
    kept = [
        parameter.replace(annotation=parameter.empty)
        for name, parameter in found.parameters.items()
        if name not in left_out
    ]
    return str(inspect.Signature(kept))


def first_line(value: Any) -> str:
    """Return the summary of a docstring."""
    return (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")


def public(value: object) -> list[str]:
    """Return the public names of an object."""
    return [name for name in dir(value) if not name.startswith("_")]


def main() -> int:
    """Write the pages or compare them; return the exit status."""
    wrong = []
    for name, lines in (("command-line.md", command_line()), ("api.md", api())):
        path, text = FOLDER / name, "\n".join(lines).rstrip() + "\n"
        if "--check" not in sys.argv:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(name)
    if wrong:
        print(f"docs/reference: {', '.join(wrong)} differ; run python scripts/build_reference.py")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
