"""Every fenced Python and bash block of the README and the docs is run, page by page.

A page is one program: its blocks run in order, in one folder, Python blocks in one namespace.
The folder holds the docs' examples; an engine with a tiny base model answers. Blocks of other
languages are shown, not run; so is a block that is preceded by `<!-- not run: reason -->`.
"""

import gc
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_LEVEL = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = sorted([*(ROOT / name for name in TOP_LEVEL), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"(?:<!-- (?P<note>not run: [^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("python", "bash")


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    note: str | None


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match["language"],
            match["code"],
            text.count("\n", 0, match.start("code")) + 1,
            match["note"],
        )
        for match in FENCE.finditer(text)
    ]


def pages_with_code():
    return [page for page in PAGES if any(block.language in RUN for block in blocks_of(page))]


@pytest.fixture
def workshop(tmp_path, monkeypatch, tiny_engine):
    """A folder with the docs' examples, and an environment that leads to the tiny engine."""
    shutil.copytree(ROOT / "docs/examples", tmp_path / "docs/examples")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "TUNESMITH_BASE_URL"):
        monkeypatch.setenv(name, tiny_engine.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_s_blocks_run(page, workshop):
    namespace = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.note or block.language not in RUN:
            continue
        if block.language == "python":
            # The line numbers of a traceback are those of the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(page), "exec"), namespace)  # noqa: S102 - our own pages
        else:
            ran = subprocess.run(
                ["/bin/bash", "-euo", "pipefail", "-c", block.code],
                cwd=workshop, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, f"{page}:{block.line}\n{ran.stdout}\n{ran.stderr}"
    for value in namespace.values():
        if callable(getattr(value, "close", None)) and not isinstance(value, type):
            value.close()
    # A page may make one client after another and close none, as people do in a shell.
    namespace.clear()
    if "tunesmith.v0.calls" in sys.modules:  # the module-level style keeps its clients
        sys.modules["tunesmith.v0.calls"]._client.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_the_readme_begins_with_the_two_commands():
    first, second = [block for block in blocks_of(ROOT / "README.md") if block.language == "bash"][
        :2
    ]
    assert first.code.rstrip().endswith("tunesmith quickstart")
    assert second.code.rstrip().endswith("python -m pytest -n auto --dist loadfile")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_hides_from_being_run(page):
    found = [block for block in blocks_of(page) if block.language in RUN]
    fences = re.findall(
        r"^[ >]*```(?:python|bash|py|sh|shell)\b", page.read_text("utf-8"), re.MULTILINE
    )
    assert len(found) == len(fences), "an indented block, or a language under another name"


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
