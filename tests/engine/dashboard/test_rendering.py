"""The format of sizes, times and numbers."""

from __future__ import annotations

import errno

import pytest

from tunesmith.engine.dashboard import rendering
from tunesmith.engine.dashboard.browser_session import (
    LIFE_SECONDS,
    Sessions,
    form_token,
    is_form_token,
)
from tunesmith.engine.dashboard.rendering import duration, number, size


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [(0, "0 B"), (999, "999 B"), (7703, "7.7 kB"), (269_060_552, "269 MB"), (1 << 30, "1.07 GB")],
)
def test_sizes(bytes_, expected):
    assert size(bytes_) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3725, "1 h 02 min")],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (1.23456, "1.235"),
        (True, "yes"),
        (3, "3"),
        ([1, 2.0], "1, 2"),
    ],
)
def test_numbers(value, expected):
    assert number(value) == expected


def test_counts_have_the_commas_of_every_other_number():
    count = rendering._environment().filters["count"]
    assert [count(one) for one in (7, 8192, 1_274_000)] == ["7", "8,192", "1,274,000"]


def test_sessions_expire_and_can_be_ended(monkeypatch):
    sessions = Sessions()
    token = sessions.sign_in("key-1")
    other = sessions.sign_in("key-1")
    assert sessions.key_id(token) == "key-1"
    assert sessions.key_id("made-up") is None
    sessions.sign_out(other)
    assert sessions.key_id(other) is None
    assert token not in repr(vars(sessions))
    import time

    later = time.monotonic() + LIFE_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert sessions.key_id(token) is None


def test_form_tokens_belong_to_one_session():
    assert is_form_token("one", form_token("one"))
    assert not is_form_token("one", form_token("other"))
    assert not is_form_token("one", "ü")


def test_compiling_at_the_limit_of_open_files_is_left_to_the_pages(monkeypatch):
    asked = []

    class Environment:
        def list_templates(self, extensions):
            assert extensions == ["html"]
            return ["one.html", "two.html"]

        def get_template(self, name):
            asked.append(name)
            raise OSError(errno.EMFILE, "Too many open files", name)

    monkeypatch.setattr(rendering, "_environment", Environment)
    rendering.compile_templates()
    assert asked == ["one.html", "two.html"]
