"""Fixtures of the datasets tests."""

from __future__ import annotations

from importlib import import_module

import pytest

from tunesmith.datasets.checks import duplicate_rows
from tunesmith.datasets.optional import optional
from tunesmith.datasets.readers import json_chunks


@pytest.fixture
def without_extras(monkeypatch):
    """Let the optional accelerators be missing, as in a core install."""
    caches = (optional, json_chunks._decoder, json_chunks._typed_decoder, duplicate_rows._encoder)

    def import_core(name):
        if name in {"msgspec", "numpy"}:
            raise ImportError(name)
        return import_module(name)

    monkeypatch.setattr("tunesmith.datasets.optional.import_module", import_core)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
