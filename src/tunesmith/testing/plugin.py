"""Pytest fixtures with an engine.

In the root `conftest.py` of your tests:

    pytest_plugins = ["tunesmith.testing.plugin"]

Fixtures: `tunesmith_engine` (one for the whole run), `tunesmith_client`,
`tunesmith_async_client`, and `tunesmith_environment`, which points clients that your
application creates itself at the engine. Override `tunesmith_answer` to choose what
simulated models answer. `--tunesmith-engine=tiny` runs the same tests against the real
engine on a tiny model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from tunesmith.client import AsyncClient, Client

__all__ = [
    "pytest_addoption",
    "tunesmith_answer",
    "tunesmith_async_client",
    "tunesmith_client",
    "tunesmith_engine",
    "tunesmith_environment",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--tunesmith-engine`."""
    parser.getgroup("tunesmith").addoption(
        "--tunesmith-engine",
        choices=("simulated", "tiny"),
        default="simulated",
        help="the engine that tests run against: simulated, or the real one on a tiny model",
    )


@pytest.fixture(scope="session")
def tunesmith_answer() -> Any:
    """The function that answers for simulated models, or None; override it."""
    return None


@pytest.fixture(scope="session")
def tunesmith_engine(request: pytest.FixtureRequest, tunesmith_answer: Any) -> Generator[Any]:
    """A running engine: a `SimulatedEngine`, or an `Engine` with `--tunesmith-engine=tiny`."""
    from tunesmith.testing import simulate, start_tiny

    simulated = request.config.getoption("--tunesmith-engine") == "simulated"
    with simulate(tunesmith_answer) if simulated else start_tiny() as engine:
        yield engine


@pytest.fixture
def tunesmith_client(tunesmith_engine: Any) -> Generator[Client]:
    """A client for the engine."""
    with tunesmith_engine.client() as client:
        yield client


@pytest.fixture
def tunesmith_async_client(tunesmith_engine: Any) -> AsyncClient:
    """An asynchronous client for the engine. Close it in your event loop, or `async with` it."""
    from tunesmith.client import AsyncClient

    return AsyncClient(base_url=tunesmith_engine.base_url, api_key="local")


@pytest.fixture
def tunesmith_environment(tunesmith_engine: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Environment variables that point tunesmith and OpenAI clients here; returns the base URL."""
    for product in ("TUNESMITH", "OPENAI"):
        monkeypatch.setenv(f"{product}_BASE_URL", tunesmith_engine.base_url)
        monkeypatch.setenv(f"{product}_API_KEY", "local")
    return str(tunesmith_engine.base_url)
