"""The GPU benchmark runs all of its cases here, with a tiny model, so that it works on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "support" / "vllm_stand_in.py"
OPTIONAL = {"tunesmith-qlora": "bitsandbytes", "trl-lora": "trl", "trl-qlora": "trl"}


def run(tmp_path, *options):
    """Run the benchmark; return its results by the names of its cases."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--smoke", *options]
    command += ["--output", str(tmp_path), "--folder", str(tmp_path)]
    command += ["--vllm-command", f"{sys.executable} {STAND_IN}"]
    environment = os.environ | {"STAND_IN_FOLDER": str(tmp_path)}
    subprocess.run(command, env=environment, check=True, timeout=540)
    results = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["results"]
    assert len((tmp_path / "gpu.md").read_text("utf-8").splitlines()) >= len(results) + 2
    return {result["name"]: result for result in results}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="vLLM is made for Linux")
def test_every_case_runs_with_a_tiny_model(tmp_path):
    results = run(tmp_path)
    trainers = {"tunesmith-lora", "tunesmith-qlora", "trl-lora", "trl-qlora", "trl-plain"}
    servers = {"vllm", "vllm-adapter", "engine", "engine-adapter", "transformers"}
    assert results.keys() == {"model", "peft-lora", *trainers, *servers}
    for name in servers:
        result = results[name]
        assert result["status"] == "ok", result
        assert [row["requests"] for row in result["measurements"]] == [1, 4]
        assert [row["tokens"] for row in result["measurements"]] == [4, 16]
    for name in ("model", "tunesmith-lora", "peft-lora"):
        assert results[name]["status"] == "ok", results[name]
    for name in trainers - {"tunesmith-lora"}:  # where their libraries are not installed
        result = results[name]
        assert result["status"] in {"ok", "not installed"} or "pip install" in result["message"]
    # Nothing of the models is left.
    assert not list(tmp_path.glob("gpu-*"))


def test_a_budget_that_is_used_up_leaves_the_figures_so_far(tmp_path):
    results = run(tmp_path, "--budget", "1")
    assert {result["status"] for result in results.values()} == {"not run"}
    assert "of the budget" in results["model"]["message"]
