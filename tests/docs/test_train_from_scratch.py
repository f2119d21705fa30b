"""The example that trains without a server learns its toy task and answers by it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "train_from_scratch.py"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_the_example_learns_its_toy_task(tmp_path: Path):
    pytest.importorskip("torch", reason="needs the extra `engine`")
    example = runpy.run_path(str(EXAMPLE))
    first_loss, last_loss, answer = example["main"](example["Config"](output=str(tmp_path)))
    assert last_loss < first_loss / 10
    assert answer == " positive"
    assert (tmp_path / "adapter_model.safetensors").exists()
