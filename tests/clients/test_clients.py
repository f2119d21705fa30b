"""Other people's clients, unchanged but for the base URL, run the guide's workflow.

They are installed from the package registries into environments of their own; where no
registry is reached the tests are skipped. TUNESMITH_TEST_CLIENTS names a folder that keeps the
environments, which then must come to be. The programs that build on those clients take minutes
to install: they are tested where that folder is named.
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
ROOT = HERE.parents[1]


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


def python_with(folder: Path, *requirements: str) -> Path:
    """Return the interpreter of an environment that has some requirements."""
    python = folder / "bin" / "python"
    if not folder.exists():
        venv.create(folder, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet"]
        try:
            install(*pip, "install", "--retries", "1", "--timeout", "10", *requirements)
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


def run_program(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("ok\n"), done.stdout + done.stderr


needs_folder = pytest.mark.skipif(
    not KEPT, reason="set TUNESMITH_TEST_CLIENTS to a folder that keeps the programs"
)


@pytest.mark.slow
@needs_folder
@pytest.mark.parametrize(
    ("script", "requirements"),
    [
        ("use_dspy.py", "dspy==3.4.1"),
        ("use_inspect_ai.py", "inspect-ai==0.3.285 openai==3.57.0"),
        ("use_instructor.py", "instructor==1.17.0"),
        ("use_langchain.py", "langchain-openai==1.7.4"),
        ("use_litellm.py", "litellm==1.110.2"),
        (
            "use_llama_index.py",
            (
                "llama-index-llms-openai==0.8.3 llama-index-llms-openai-like==0.8.1 "
                "llama-index-embeddings-openai==0.7.0"
            ),
        ),
        ("use_lm_eval.py", "lm_eval[api]==0.4.13"),
        ("use_pydantic_ai.py", "pydantic-ai-slim[openai]==2.68.0"),
    ],
)
def test_a_python_program(
    engine: Engine, training_file: Path, environments: Path, script: str, requirements: str
):
    """Each also gets this project, whose client it is given where it takes one."""
    python = python_with(environments / Path(script).stem, *requirements.split(), str(ROOT))
    script_path = str(HERE / "programs" / script)

    run_program([str(python), script_path, engine.base_url, str(training_file), "tiny"])


@pytest.mark.slow
@needs_folder
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js with npm")
@pytest.mark.parametrize(
    ("script", "packages"),
    [
        (
            "use_ai_sdk.mjs",
            "ai@6.0.326 @ai-sdk/openai@3.0.141 @ai-sdk/openai-compatible@2.0.92 zod@4.6.7",
        ),
        ("use_promptfoo.mjs", "promptfoo@0.121.20"),
    ],
)
def test_a_node_program(
    engine: Engine, training_file: Path, environments: Path, script: str, packages: str
):
    folder = environments / Path(script).stem
    if not (folder / "node_modules").exists():
        folder.mkdir(exist_ok=True)
        quietly = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
        install("npm", "install", *quietly, *packages.split(), cwd=folder)
    copied = shutil.copy(HERE / "programs" / script, folder)

    run_program(["node", str(copied), engine.base_url, str(training_file), "tiny"])


def test_openai_pythons_own_resource_tests(environments: Path):
    """They need the published OpenAPI document, which is in no package registry."""
    specification = os.environ.get("TUNESMITH_TEST_OPENAPI")
    if not specification or shutil.which("npm") is None:
        pytest.skip("needs npm, and TUNESMITH_TEST_OPENAPI with the path of openapi.yaml")
    folder = environments / "steady"
    mock = folder / "node_modules" / ".bin" / "steady"
    if not mock.exists():
        folder.mkdir(exist_ok=True)
        install("npm", "install", "--silent", "--prefix", str(folder), "@stdy/cli@0.22.2")
    source = environments / "openai-3.54.0"
    if not source.exists():
        name = "openai==3.54.0"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
        install(*pip, "--dest", str(environments), name)
        shutil.unpack_archive(environments / "openai-3.54.0.tar.gz", environments, filter="data")
    script = [sys.executable, str(HERE / "openai_resource_tests.py")]
    command = [*script, str(source / "tests"), str(mock), specification]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
