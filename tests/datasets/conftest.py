"""Fixtures of the datasets tests."""

from __future__ import annotations

import sys

import pytest

from tunesmith.datasets.checks import duplicate_rows
from tunesmith.datasets.optional import optional
from tunesmith.datasets.readers import json_chunks


@pytest.fixture
def without_extras(monkeypatch):
    """Let the optional accelerators be missing, as in a core install."""
    caches = (optional, json_chunks._decoder, json_chunks._typed_decoder, duplicate_rows._encoder)
    for name in ("msgspec", "numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
