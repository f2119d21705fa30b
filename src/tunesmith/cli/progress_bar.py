"""A progress bar for downloads: live on a terminal, a line every tenth in a pipe."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .output import print_notice

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    # Called with a description, the amount done and the total amount.
    Report = Callable[[str, int, int], None]

__all__ = ["progress_bar"]


@contextmanager
def progress_bar() -> Generator[Report]:
    """Show a progress bar on stderr; yields the function that updates it: (what, done, total)."""
    bar = _rich_bar() if sys.stderr.isatty() else None
    if bar is None:
        yield _lines()
        return
    with bar:
        yield _live(bar)


def _lines() -> Report:
    """Report in lines: one at the start of each item and one for each tenth of it."""
    printed: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 0
        if what not in printed and done == total:
            printed[what] = tenth  # it was there already: nothing to wait for
        if printed.get(what, -1) < tenth:
            printed[what] = tenth
            print_notice(f"{what}: {tenth * 10} %")

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
