"""A training's model is loaded for answers before the first request, unless the settings say no."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from tunesmith.engine.config import ServingConfig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def is_loaded(platform):
    """Return whether the engine has a process that generates answers."""
    pid = platform.engine.pid
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and f"PPid:\t{pid}\n" in (folder / "status").read_text():
                command = (folder / "cmdline").read_bytes()
                if b"tunesmith.engine.serving.model_worker" in command:
                    return True
    return False


def test_a_model_is_loaded_ahead_where_the_settings_allow_it(make_platform):
    platform = make_platform(serving=ServingConfig(preload=False))
    file = platform.upload()
    first = platform.finished(platform.create(file, 1))
    assert first["status"] == "succeeded"
    assert not is_loaded(platform)
    platform.stop()
    platform.settings["serving"] = ServingConfig(preload=True)
    platform.start()
    assert platform.finished(platform.create(file, 1))["status"] == "succeeded"
    platform.wait_for(lambda: is_loaded(platform), 60)
