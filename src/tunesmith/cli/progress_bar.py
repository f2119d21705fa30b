"""A progress bar for downloads: live on a terminal, a line every tenth in a pipe."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .output import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    # Called with what is being done, how much of it is done, and how much there is.
    Report = Callable[[str, int, int], None]

__all__ = ["progress_bar"]


@contextmanager
def progress_bar() -> Generator[Report]:
    """Open a bar on stderr; call what it gives with (what, done, in all)."""
    bar = _rich_bar() if sys.stderr.isatty() else None
    if bar is None:
        yield _lines()
        return
    with bar:
        yield _live(bar)


def _lines() -> Report:
    """Report in lines: one when something begins and one for each tenth of it."""
    told: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 0
        if what not in told and done == total:
            told[what] = tenth  # it was there already: nothing to wait for
        if told.get(what, -1) < tenth:
            told[what] = tenth
            say(f"{what}: {tenth * 10} %")

    return report


def _live(bar: Any) -> Report:
    tasks: dict[str, Any] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    return report


def _rich_bar() -> Any:
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        return None
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
