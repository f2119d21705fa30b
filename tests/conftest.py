"""What several rooms' tests share: the tiny base model, and an engine that serves it."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "tunesmith_tests_tiny_model", Path(__file__).parent / "engine/conftest.py"
)
assert _spec
assert _spec.loader
_tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tiny)


@pytest.fixture(scope="session")
def shared_tiny_home(tmp_path_factory):
    """A state folder in which every known model name leads to a tiny random model."""
    from tunesmith.engine.home import Home

    folder = tmp_path_factory.mktemp("shared")
    model = _tiny.write_tiny_model(folder / "tiny")
    home = Home(folder / "home")
    home.root.mkdir()
    home.base_model_table.write_text(
        f'default = "tiny"\n\n[base.tiny]\npath = "{model.as_posix()}"\n', encoding="utf-8"
    )
    return home


@pytest.fixture(scope="session")
def tiny_engine(shared_tiny_home):
    """An engine in a process of its own, with the tiny model, for all tests of the session."""
    from tunesmith import engine

    with engine.start(home=shared_tiny_home.root) as server:
        yield server
