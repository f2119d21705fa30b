"""A training's model is loaded for answers before the first request, unless the settings say no."""

from __future__ import annotations

import sys

import pytest

from tunesmith.engine.config import ServingConfig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_model_is_loaded_ahead_where_the_settings_allow_it(make_platform):
    platform = make_platform(serving=ServingConfig(preload=False))
    file = platform.upload()
    first = platform.finished(platform.create(file, 1))
    assert first["status"] == "succeeded"
    assert not platform.model_workers()
    platform.stop()
    platform.settings["serving"] = ServingConfig(preload=True)
    platform.start()
    assert platform.finished(platform.create(file, 1))["status"] == "succeeded"
    platform.wait_for(platform.model_workers, 60)
