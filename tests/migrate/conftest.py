"""Fixtures of the tests of `migrate`: rows, recorded organisations, one way to run both clients."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import RetryPolicy
from tunesmith.testing import Quirks, recorded_organization

FAST = RetryPolicy(max_retries=2, initial_delay=0.01, max_delay=0.02)


@pytest.fixture
def validation_file(tmp_path: Path) -> Path:
    path = tmp_path / "valid.jsonl"
    rows = [
        {"messages": [
            {"role": "system", "content": "Say the feeling."},
            {"role": "user", "content": f"{text} {number}"},
            {"role": "assistant", "content": label},
        ]}
        for number in range(10)
        for text, label in (("I love it", "positive"), ("I hate it", "negative"))
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def organization() -> Any:
    """An organisation with all its faults."""
    with recorded_organization(quirks=Quirks(deleted=0.1, expired=0.05, short=0.05)) as made:
        yield made


@pytest.fixture
def calm() -> Any:
    """An organisation without faults."""
    with recorded_organization(quirks=Quirks.none()) as made:
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_in_mode(mode: str, organization: Any, step: Any, **settings: Any) -> Any:
    """Run a step with a client of a mode: "sync" or "async"."""
    settings.setdefault("retry", FAST)
    if mode == "sync":
        with organization.client(**settings) as client:
            return step(client)

    async def call() -> Any:
        async with organization.async_client(**settings) as client:
            return await step(client)

    return asyncio.run(call())
