"""Other people's clients, unchanged but for the base URL, run the guide's workflow.

They are installed from the package registries into environments of their own; where no
registry is reached the tests are skipped. TUNESMITH_TEST_CLIENTS names a folder that keeps the
environments, which then must come to be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.engine import Engine
from tunesmith.testing import start_tiny

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with start_tiny() as running:
        yield running


@pytest.fixture(scope="module")
def training_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    rows = (
        f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}\\n"}}\n'
        for thing in ("phone", "game", "day", "sea")
        for verb, mood in (("love", "positive"), ("hate", "negative"))
    )
    path.write_text("".join(rows), encoding="utf-8")
    return path


KEPT = os.environ.get("TUNESMITH_TEST_CLIENTS")


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(KEPT).absolute() if KEPT else tmp_path_factory.mktemp("clients")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def install(*command: str, cwd: Path | None = None) -> None:
    """Run an installation; skip the test if it fails, unless its result was asked for."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-300:]
        (pytest.fail if KEPT else pytest.skip)(f"{command[0]} cannot install the client: {words}")


def python_with(folder: Path, requirement: str) -> Path:
    """Return the interpreter of an environment that has one requirement."""
    python = folder / "bin" / "python"
    if not folder.exists():
        venv.create(folder, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet"]
        try:
            install(*pip, "install", "--retries", "1", "--timeout", "10", requirement)
        except BaseException:
            shutil.rmtree(folder)  # half an environment would be taken for a whole one
            raise
    return python


@pytest.mark.parametrize(
    ("script", "requirement"),
    [
        ("openai_python.py", "openai==3.54.0"),
        ("public_schema.py", "openai==3.54.0"),
        ("openai_python_0.py", "openai==0.28.1"),
    ],
)
def test_openai_python(
    engine: Engine, training_file: Path, environments: Path, script: str, requirement: str
):
    python = python_with(environments / requirement, requirement)
    command = [str(python), str(HERE / script), engine.base_url, str(training_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("ok\n")


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js with npm")
def test_openai_node(engine: Engine, training_file: Path, environments: Path):
    folder = environments / "node"
    if not (folder / "node_modules").exists():
        folder.mkdir(exist_ok=True)
        packages = ["openai@6.49.0", "openai-3@npm:openai@3.3.0"]
        quietly = ["--silent", "--no-audit", "--no-fund", "--fetch-retries=1"]
        install("npm", "install", *quietly, *packages, cwd=folder)
    script = shutil.copy(HERE / "openai_node.mjs", folder)
    command = ["node", script, engine.base_url, str(training_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "openai-node ok\n"
