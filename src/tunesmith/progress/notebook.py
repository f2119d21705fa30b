"""The view of a job in a notebook: one output, redrawn in place, without a widget library.

Kernels let an output be replaced by its display id, which every notebook front end supports;
the saved notebook keeps the last drawing.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from html import escape
from typing import TYPE_CHECKING, Any

from .job_progress import Progress
from .text import clock, printable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NotebookView", "notebook_view"]

_SHOWN_MESSAGES = 12
_REDRAW_SECONDS = 0.2


class NotebookView:
    """A bar with step, loss and remaining time above the last messages."""

    wants_steps = True

    def __init__(self, draw: Callable[[dict[str, str]], object]) -> None:
        """Draw with `draw`: it gets HTML and text by media type, and replaces what was drawn."""
        self._draw_data = draw
        self._progress = Progress()
        self._messages: deque[str] = deque(maxlen=_SHOWN_MESSAGES)
        self._drawn_at = float("-inf")

    def update(self, status: str, estimated_finish: float | None) -> None:
        """Show the status and the remaining time."""
        self._progress.status, self._progress.estimated_finish = status, estimated_finish
        self._draw()

    def event(self, message: str, created_at: int) -> None:
        """Add the event to the messages, unless the bar already shows it."""
        if not self._progress.observe(message, created_at):
            self._messages.append(f"{clock(created_at)}  {message}")
        self._draw()

    def close(self) -> None:
        """Draw the final state."""
        self._drawn_at = float("-inf")
        self._draw()

    def text(self) -> str:
        """Return the view as text, for consoles and for notebooks that are turned into text."""
        lines = [*map(printable, self._messages), printable(self._headline())]
        return "\n".join(lines)

    def html(self) -> str:
        """Return the view as HTML; the notebook's own theme colours it."""
        progress = self._progress
        bar = (
            f'<progress value="{progress.done}" max="{progress.total}"></progress> '
            if progress.total
            else ""
        )
        lines = escape("\n".join(self._messages))
        return f"<div>{bar}{escape(self._headline())}</div><pre>{lines}</pre>"

    def _headline(self) -> str:
        progress = self._progress
        status = "" if progress.headline == progress.status else f"{progress.status}: "
        return "  ".join(filter(None, [status + progress.headline, progress.detail(time.time())]))

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = now
            self._draw_data({"text/html": self.html(), "text/plain": self.text()})


def notebook_view() -> NotebookView:
    """Return a view in the output of the cell that is running."""
    display: Any = importlib.import_module("IPython.display")
    nothing = {"text/html": "", "text/plain": ""}
    handle = display.display(nothing, raw=True, display_id=True)
    return NotebookView(lambda data: handle.update(data, raw=True))
