"""What the documentation site has besides the files of docs/: a hook of MkDocs.

The pages must read well where they lie, in the repository, so whatever only a site can show is
made here: the reference of the Python names, the pages that stand at the top level, links to the
source, and each page's description. It knows nothing of what the pages say.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tunesmith"
TOP_LEVEL = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
PACKAGES = ("datasets", "results", "graders", "migrate", "engine", "tracking", "testing", "types")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]*(?:\[[^\]\n]*\])?[^\]\n]*)\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DESCRIPTION_LENGTH = 160


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    for target, source in TOP_LEVEL.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=_moved_into_docs(text)))
    for name, text in python_reference():
        files.append(File.generated(config, f"reference/python/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Let links out of docs/ lead to the repository, and describe the page by its beginning."""
    if "description" not in page.meta:
        page.meta["description"] = _description(markdown) or config.site_description

    def rewritten(match: re.Match[str]) -> str:
        path, _, _ = match["target"].partition("#")
        if not path or ":" in path:
            return match[0]
        found = _normalised(PurePosixPath(page.file.src_uri).parent / path)
        for name, top in TOP_LEVEL.items():
            if found == f"../{top}":
                return f"[{match['text']}]({'../' * page.file.src_uri.count('/')}{name})"
        if not found.startswith("../"):
            return match[0]
        if not config.repo_url:
            return match["text"]
        return f"[{match['text']}]({config.repo_url.rstrip('/')}/blob/main/{found[3:]})"

    return LINK.sub(rewritten, markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Name the theme's search dialog, which has no name for screen readers."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def python_reference() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page of the Python reference."""
    top = public_names(SOURCE / "__init__.py")
    errors = [name for name, module in top if module == "errors"]
    own = [name for name, module in top if module not in {"", "errors"}]
    yield "client", _page("Clients", "The clients, and what they take and return.", "", own)
    yield "errors", _page("Errors", "Every exception that the client raises.", "", errors)
    yield "operations", _operations()
    for package in PACKAGES:
        names = [name for name, _ in public_names(SOURCE / package / "__init__.py")]
        summary = ast.get_docstring(_tree(SOURCE / package / "__init__.py")) or ""
        title = "Objects" if package == "types" else f"tunesmith.{package}"
        yield package, _page(title, summary.split("\n\n")[0], f"{package}.", names)


def public_names(path: Path) -> list[tuple[str, str]]:
    """Return the names that a package re-exports, each with the module it comes from.

    They are those that it imports under their own name, or lists in `__all__`.
    """
    tree = _tree(path)
    listed = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for name in ast.literal_eval(node.value)
    }
    return [
        (one.name, node.module or "")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for one in node.names
        if (one.asname == one.name and not one.name.startswith("_")) or one.name in listed
    ]


def _operations() -> str:
    """Return the page of the operations: every class of `resources` that has some."""
    classes = [
        f"resources.{path.stem}.{node.name}"
        for path in sorted((SOURCE / "resources").glob("*.py"))
        for node in _tree(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and _operates(node)
    ]
    text = "What a client can ask a server for. `AsyncClient` has the same, to be awaited."
    return _page("Operations", text, "", classes, inherited_members="false")


def _operates(node: ast.ClassDef) -> bool:
    decorators = {"operation", "overloaded", "listing", "iteration", "streaming"}
    return any(
        isinstance(one, ast.FunctionDef)
        and any(getattr(d, "id", getattr(getattr(d, "func", None), "id", "")) in decorators
                for d in one.decorator_list)
        for one in node.body
    )  # fmt: skip


def _page(title: str, text: str, prefix: str, names: list[str], **options: str) -> str:
    lines = [f"# {title}\n", f"{text}\n"]
    for name in sorted(names, key=str.lower):
        lines.append(f"::: tunesmith.{prefix}{name}")
        if options:
            lines.append("    options:")
            lines += [f"      {key}: {value}" for key, value in options.items()]
        lines.append("")
    return "\n".join(lines)


def _moved_into_docs(text: str) -> str:
    """Return the text of a file of the top level with its links as seen from docs/."""

    def rewritten(match: re.Match[str]) -> str:
        target = match["target"]
        if ":" in target or target.startswith("#"):
            return match[0]
        for name, top in TOP_LEVEL.items():
            if target.partition("#")[0] == top:
                return f"[{match['text']}]({target.replace(top, name)})"
        moved = target[5:] if target.startswith("docs/") else f"../{target}"
        return f"[{match['text']}]({moved})"

    return LINK.sub(rewritten, text)


def _normalised(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _description(markdown: str) -> str:
    """Return the first plain paragraph, without markup, cut at a word."""
    for block in re.split(r"\n\s*\n", CODE.sub("", markdown)):
        text = block.strip()
        if text and text[0] not in "#|<!->:":
            plain = re.sub(r"[*`_]", "", LINK.sub(r"\g<text>", " ".join(text.split())))
            if len(plain) <= DESCRIPTION_LENGTH:
                return plain
            return plain[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return ""


def _tree(path: Path) -> Any:
    return ast.parse(path.read_text(encoding="utf-8"))
