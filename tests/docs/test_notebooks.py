"""The notebooks run from a clean folder, on a tiny model; what they show came from a whole run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture
def workshop(tmp_path):
    """The notebooks and the examples beside them, and nothing else of the repository."""
    for name in ("notebooks", "examples"):
        shutil.copytree(
            ROOT / "docs" / name, tmp_path / name, ignore=shutil.ignore_patterns("work")
        )
    return tmp_path


def test_the_notebooks_run_from_first_cell_to_last(workshop, tiny_engine, index_is_out_of_reach):
    folder = workshop / "notebooks"
    ran = subprocess.run(
        [sys.executable, ROOT / "scripts/run_notebooks.py", "--quick", "--folder", folder],
        env=os.environ | {"TUNESMITH_BASE_URL": tiny_engine.base_url, "OPENAI_API_KEY": "any"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "DownloadError" in ran.stderr:
        index_is_out_of_reach(f"the newsgroup posts cannot be downloaded: {ran.stderr[-500:]}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line.partition(":")[0] for line in ran.stdout.splitlines()] == [
        path.name for path in NOTEBOOKS
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_outputs_shown_are_those_of_one_whole_run(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    shown = json.dumps([cell["outputs"] for cell in code])
    assert '"output_type": "error"' not in shown
    assert not re.search(r"/home/|/tmp/|/root/|[A-Z]:\\\\", shown), "a path of someone's machine"
