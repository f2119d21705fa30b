"""Views for `follow`: a widget in a notebook, a progress bar on a terminal, lines in a pipe.

The bar needs rich and a terminal, the widget a notebook kernel; otherwise the messages are
printed as plain lines without control codes.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, Protocol

from .job_progress import Progress
from .text import clock, printable

__all__ = ["JobView", "LiveView", "PlainView", "open_view"]


class JobView(Protocol):
    """Shows a job and its events as they arrive."""

    @property
    def wants_steps(self) -> bool:
        """Whether to read the newest step separately where the events have no steps."""
        ...

    def update(self, status: str, estimated_finish: float | None) -> None:
        """Show the job's status; `estimated_finish` is a Unix time in seconds."""
        ...

    def event(self, message: str, created_at: int) -> None:
        """Show one event; `created_at` is a Unix time in seconds."""
        ...

    def close(self) -> None:
        """Finish; the last state stays visible."""
        ...


class PlainView:
    """Prints one line per event."""

    wants_steps = False

    def update(self, status: str, estimated_finish: float | None) -> None:
        """Do nothing: the events say it."""

    def event(self, message: str, created_at: int) -> None:
        """Print the event."""
        print(f"[{clock(created_at)}] {printable(message)}", flush=True)

    def close(self) -> None:
        """Do nothing: what is printed stays."""


class LiveView:
    """Prints messages above a progress bar with step, loss and remaining time."""

    wants_steps = True

    def __init__(self, bar: Any) -> None:
        """Draw in `bar`, a started `rich.progress.Progress` with a column for `detail`."""
        self._bar = bar
        self._task = bar.add_task("waiting", total=None, detail="")
        self._progress = Progress()

    def update(self, status: str, estimated_finish: float | None) -> None:
        """Show the status until there are steps, and the remaining time."""
        self._progress.status, self._progress.estimated_finish = status, estimated_finish
        self._draw()

    def event(self, message: str, created_at: int) -> None:
        """Print the event above the bar, unless the bar already shows it."""
        if not self._progress.observe(message, created_at):
            line = f"[{clock(created_at)}] {printable(message)}"
            self._bar.console.print(line, markup=False, highlight=False)
        self._draw()

    def close(self) -> None:
        """Stop the bar in its last state."""
        self._bar.stop()

    def _draw(self) -> None:
        progress = self._progress
        self._bar.update(
            self._task,
            description=printable(progress.headline),
            completed=progress.done,
            total=progress.total or None,
            detail=progress.detail(time.time()),
        )


def open_view() -> JobView:
    """Return the view that fits the output: notebook, terminal or pipe."""
    if _in_notebook():
        from .notebook import notebook_view

        return notebook_view()
    bar = _bar() if sys.stdout.isatty() else None
    return PlainView() if bar is None else LiveView(bar)


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel; IPython in a terminal is not one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _bar() -> Any:
    """Return a started bar, None where rich is not installed."""
    try:
        rich: Any = importlib.import_module("rich.progress")
    except ImportError:
        return None
    bar = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TextColumn("{task.fields[detail]}"),
    )
    bar.start()
    return bar
