"""What several rooms' tests share: the tiny base model, and an engine that serves it."""

import signal

import pytest

from tunesmith.testing import write_tiny_home, write_tiny_model

# Started in the background of a script, pytest inherits an ignored SIGINT; the programs whose
# Ctrl-C is tested would inherit it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_tiny_home(tmp_path_factory):
    """A state folder in which every known model name leads to a tiny random model."""
    from tunesmith.engine.home import Home

    folder = tmp_path_factory.mktemp("shared")
    return Home(write_tiny_home(folder / "home", write_tiny_model(folder / "tiny")))


@pytest.fixture(scope="session")
def tiny_engine(shared_tiny_home):
    """An engine in a process of its own, with the tiny model, for all tests of the session."""
    from tunesmith import engine

    with engine.start(home=shared_tiny_home.root) as server:
        yield server
