"""Both type checkers see what users should see, and find their mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SAMPLES, MISTAKES = HERE / "samples.py", HERE / "mistakes.py"


def marked_lines() -> set[int]:
    lines = MISTAKES.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# mistake")}


def test_mypy():
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--show-column-numbers",
    ]
    done = subprocess.run([*command, str(SAMPLES), str(MISTAKES)], check=False, capture_output=True, text=True, cwd=ROOT)  # fmt: skip
    errors = [line.split(":") for line in done.stdout.splitlines() if ": error:" in line]
    assert not [error for error in errors if error[0].endswith("samples.py")], done.stdout
    assert {int(error[1]) for error in errors} == marked_lines(), done.stdout + done.stderr


def test_pyright():
    program = Path(sys.executable).with_name("pyright")
    if not program.exists():
        found = shutil.which("pyright")
        if found is None:
            pytest.skip("pyright is not installed")
        program = Path(found)
    command = [str(program), "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, str(SAMPLES), str(MISTAKES)], check=False, capture_output=True, text=True, cwd=HERE)  # fmt: skip
    diagnostics = json.loads(done.stdout)["generalDiagnostics"]
    errors = [one for one in diagnostics if one["severity"] == "error"]
    assert not [one for one in errors if one["file"].endswith("samples.py")], errors
    assert {one["range"]["start"]["line"] + 1 for one in errors} == marked_lines(), errors
