"""Other people's clients, unchanged but for the base URL, run the guide's workflow.

They are installed from the package registries into environments of their own, so this needs
the network and some minutes: set TUNESMITH_TEST_CLIENTS to the folder that keeps the
environments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.engine import Engine
from tunesmith.testing import start_tiny

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not os.environ.get("TUNESMITH_TEST_CLIENTS"),
    reason="set TUNESMITH_TEST_CLIENTS to a folder for the clients' environments",
)


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


@pytest.fixture(scope="module")
def environments() -> Path:
    folder = Path(os.environ["TUNESMITH_TEST_CLIENTS"]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def python_with(folder: Path, requirement: str) -> Path:
    """Return the interpreter of an environment that has one requirement."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", requirement]
        subprocess.run(pip, check=True)
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    ("script", "requirement"),
    [("openai_python.py", "openai==3.54.0"), ("openai_python_0.py", "openai==0.28.1")],
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
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
        subprocess.run(install, cwd=folder, check=True)
    script = shutil.copy(HERE / "openai_node.mjs", folder)
    command = ["node", script, engine.base_url, str(training_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "openai-node ok\n"
