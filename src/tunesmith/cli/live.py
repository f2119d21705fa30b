"""The view of a job that is followed: a bar on a terminal, plain lines in a pipe.

The bar needs rich and a terminal; without either the same messages are printed as
lines, with no control codes.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from .output import printable
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    # Gives the newest step's message and its Unix time, or None.
    StepSource = Callable[[], tuple[str, int] | None]

__all__ = ["JobView", "job_view"]

STEP_SECONDS = 1.0


class JobView(Protocol):
    """Shows a job's events as they come."""

    def event(self, message: str, created_at: int) -> None:
        """Show one event."""


class PlainView:
    """One line an event."""

    def event(self, message: str, created_at: int) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(created_at))
        print(f"[{clock}] {printable(message)}", flush=True)


class LiveView:
    """Messages scroll above a bar with step, loss and the time left."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("waiting", total=None, detail="")
        self._progress = Progress()

    def event(self, message: str, created_at: int) -> None:
        progress = self._progress
        if not progress.observe(message, created_at):
            clock = time.strftime("%H:%M:%S", time.localtime(created_at))
            self._bar.console.print(
                f"[{clock}] {printable(message)}", markup=False, highlight=False
            )
        if progress.total:
            self._bar.update(
                self._task,
                description=f"{progress.unit} {progress.done}/{progress.total}",
                completed=progress.done,
                total=progress.total,
                detail=_detail(progress),
            )


@contextmanager
def job_view(steps: StepSource | None = None) -> Generator[JobView]:
    """Open the view that fits where stdout goes.

    Args:
        steps: Asked once a second by a live view, where events do not tell the steps.
    """
    rich = _rich() if sys.stdout.isatty() else None
    if rich is None:
        yield PlainView()
        return
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TextColumn("{task.fields[detail]}"),
    )
    with rich.Progress(*columns) as bar:
        view = LiveView(bar)
        with _watching(steps, view):
            yield view


@contextmanager
def _watching(steps: StepSource | None, view: JobView) -> Generator[None]:
    """Feed the view with the newest step in the background."""
    if steps is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(STEP_SECONDS):
            if newest := steps():
                view.event(*newest)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        if newest := steps():  # so that the bar ends where the training did
            view.event(*newest)
    finally:
        ended.set()
        thread.join()


def _rich() -> Any:
    try:
        import rich.progress
    except ImportError:
        return None
    return rich.progress


def _detail(progress: Progress) -> str:
    loss = "" if progress.loss is None else f"loss {progress.loss:.2f}"
    left = progress.seconds_left
    return loss if left is None or not progress.total else f"{loss}  {_duration(left)} left".strip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
