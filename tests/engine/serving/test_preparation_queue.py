"""Requests are prepared in turns of organisations, none of which occupies every thread."""

from __future__ import annotations

import threading

from tunesmith.engine.serving.preparation_queue import PreparationQueue


def test_one_organisations_work_delays_no_other_one():
    queue = PreparationQueue(threads=2)
    hold, quiet = threading.Event(), threading.Event()
    for number in range(100):
        queue.put(number, "loud", lambda: hold.wait(60))
    queue.put(100, "quiet", quiet.set)
    assert quiet.wait(60)
    hold.set()


def test_turns_go_round_by_organisation():
    queue = PreparationQueue(threads=1)
    begun, hold, ended = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []
    queue.put(0, "first", lambda: (begun.set(), hold.wait(60)))
    assert begun.wait(60)
    for name in ("a1", "a2", "b1", "a3", "b2"):
        queue.put(1, name[0], lambda name=name: order.append(name))
    queue.put(2, "c", ended.set)
    hold.set()
    assert ended.wait(60)
    queue.put(3, "a", (done := threading.Event()).set)
    assert done.wait(60)
    assert order == ["a1", "b1", "a2", "b2", "a3"]


def test_what_was_cancelled_is_not_prepared():
    queue = PreparationQueue(threads=1)
    begun, hold, ended = threading.Event(), threading.Event(), threading.Event()
    prepared: list[int] = []
    queue.put(0, "a", lambda: (begun.set(), hold.wait(60)))
    assert begun.wait(60)
    for number in (1, 2, 3):
        queue.put(number, "a", lambda number=number: prepared.append(number))
    queue.remove(2)
    queue.put(4, "a", ended.set)
    hold.set()
    assert ended.wait(60)
    assert prepared == [1, 3]
