"""The example that brings a model home runs through, for both services.

With the real model it takes minutes, so that is run on request: TUNESMITH_TEST_STORY=1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs/examples/bring_a_model_home.py"
STEPS = ("inventory", "pull", "verify", "record", "plan", "train", "compare", "upstream", "serve")


def run(service: str, folder: Path, *options: str) -> str:
    pytest.importorskip("torch", reason="needs the extra `engine`")
    command = [sys.executable, str(EXAMPLE), "--service", service, "--folder", str(folder)]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if "Could not download" in " ".join(ran.stderr.split()):
        pytest.skip(ran.stderr)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout + ran.stderr  # notices


def check(service: str, folder: Path, output: str) -> None:
    shown = " ".join(output.split())  # notices are wrapped
    for step in STEPS:
        assert f"$ tunesmith migrate {step} " in shown, step
    assert "mirror: 8 answered by the old service" in shown
    assert "local: 8 answered by the new model" in shown
    assert "met. The lower bound" in shown
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    manifest = json.loads((folder / "archive/manifest.json").read_text(encoding="utf-8"))
    assert manifest["source"]["service"] == service
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != "upstreams.toml"]
    assert not [path for path in kept if b"SENTINEL" in path.read_bytes()]
    assert "SENTINEL" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("service", ["openai", "azure"])
def test_the_steps_on_a_tiny_model(service: str, tmp_path: Path):
    check(service, tmp_path, run(service, tmp_path, "--tiny", "--sample", "8"))


@pytest.mark.real
@pytest.mark.skipif(
    "TUNESMITH_TEST_STORY" not in os.environ, reason="takes minutes; set TUNESMITH_TEST_STORY"
)
@pytest.mark.parametrize("service", ["openai", "azure"])
def test_the_real_model_does_what_the_old_one_did(service: str, tmp_path: Path):
    """Set TUNESMITH_HOME to keep the base model from one run to the next."""
    home = os.environ.get("TUNESMITH_HOME")
    shown = run(service, tmp_path, *(["--home", home] if home else []))
    check(service, tmp_path, shown)
    assert "agreement>=0.8: met." in " ".join(shown.split())
