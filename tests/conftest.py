"""Fixtures of several packages' tests: the tiny base model, and an engine that serves it."""

import signal

import hypothesis
import pytest

from tunesmith.testing import write_tiny_home, write_tiny_model

# Started in the background of a script, pytest inherits an ignored SIGINT; the programs whose
# Ctrl-C is tested would inherit it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason to fail.
hypothesis.settings.register_profile(
    "tunesmith", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tunesmith")


@pytest.fixture(scope="session")
def shared_tiny_home(tmp_path_factory):
    """A state folder in which every known model name selects the tiny model."""
    from tunesmith.engine.home import Home

    folder = tmp_path_factory.mktemp("shared")
    return Home(write_tiny_home(folder / "home", write_tiny_model(folder / "tiny")))


@pytest.fixture(scope="session")
def tiny_engine(shared_tiny_home):
    """An engine with the tiny model, in its own process, for all tests of the session."""
    from tunesmith import engine

    with engine.start(home=shared_tiny_home.root) as server:
        yield server
