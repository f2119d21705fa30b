"""The architecture page names packages, functions and classes that exist, and all packages."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
LINKS = sorted(set(re.findall(r"\[`([\w.]+)`\]\((\.\./src/[^)]+\.py)\)", TEXT)))
BLOCKS = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def definitions(path):
    """Return the names of the functions and classes in a module, those of methods dotted."""

    def walk(body, prefix):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{prefix}{node.name}.")

    return set(walk(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def drawn_paths():
    """Return the paths in the drawing of the packages."""
    root, *lines = BLOCKS[0].splitlines()
    folders = [root]
    paths = set()
    for line in lines:
        indent, names = re.match(r"( +)((?:[\w.]+/?, )*[\w.]+/?) ", line).groups()
        del folders[len(indent) // 2 :]
        paths |= {"".join([*folders, name]) for name in names.split(", ")}
        folders.append(names)
    return paths


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_a_linked_name_is_defined_in_the_file(name, link):
    assert name in definitions((PAGE.parent / link).resolve())


def test_there_are_links():
    assert len(LINKS) > 60


def test_each_file_of_a_check_stands_beside_its_functions():
    for row in re.findall(r"^\| `(datasets/[\w/.]+)` \| (.*) \|$", TEXT, re.MULTILINE):
        assert set(re.findall(r"\(\.\./src/tunesmith/([^)]+)\)", row[1])) == {row[0]}


def test_the_drawing_is_the_package():
    drawn = drawn_paths()
    assert all((ROOT / path).exists() for path in drawn)
    packages = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for path in (ROOT / "src/tunesmith").rglob("*/__init__.py")
        if "migrations" not in path.parts
    }
    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in ("", "engine/")
        for path in (ROOT / "src/tunesmith" / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    assert packages | modules <= drawn


def test_the_layers_are_those_of_the_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = [one["layers"] for one in contracts if one["type"] == "layers"]
    assert [block.splitlines() for block in BLOCKS[1:3]] == layers
