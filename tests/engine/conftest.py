"""A tiny base model for the engine's tests, and a state folder that contains it."""

from __future__ import annotations

import os

# Before torch is imported anywhere: one thread that sleeps while it waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest

from tunesmith.engine.home import Home
from tunesmith.testing import write_tiny_home, write_tiny_model


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer random Llama whose tokenizer knows " positive" and " negative"."""
    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def tiny_home(tmp_path: Path, tiny_base_model: Path) -> Home:
    """A fresh state folder in which every known model name leads to the tiny model."""
    return Home(write_tiny_home(tmp_path / "home", tiny_base_model))
