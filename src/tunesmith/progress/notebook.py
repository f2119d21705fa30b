"""The view of a job in a notebook: one output that is drawn anew, with no widget library.

Kernels let an output be replaced under its display id, which every notebook front end
shows; what is left in the saved file is the last drawing.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from html import escape
from typing import TYPE_CHECKING, Any

from .facts import Progress
from .text import clock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NotebookView", "notebook_view"]

_SHOWN_MESSAGES = 12
_SECONDS_BETWEEN_DRAWINGS = 0.2


class NotebookView:
    """A bar with step, loss and time left above the last messages."""

    wants_steps = True

    def __init__(self, draw: Callable[[str], object]) -> None:
        """Show through `draw`, which replaces what it drew before by some HTML."""
        self._draw_html = draw
        self._progress = Progress()
        self._messages: deque[str] = deque(maxlen=_SHOWN_MESSAGES)
        self._drawn_at = float("-inf")

    def look(self, status: str, estimated_finish: float | None) -> None:
        """Show the status and the time left."""
        self._progress.status, self._progress.estimated_finish = status, estimated_finish
        self._draw()

    def event(self, message: str, created_at: int) -> None:
        """Add the event to the messages, unless the bar shows what it tells."""
        if not self._progress.observe(message, created_at):
            self._messages.append(f"{clock(created_at)}  {message}")
        self._draw()

    def close(self) -> None:
        """Draw what is known at the end."""
        self._drawn_at = float("-inf")
        self._draw()

    def html(self) -> str:
        """Return the drawing. Colours are the notebook's own, light or dark."""
        progress = self._progress
        bar = (
            f'<progress value="{progress.done}" max="{progress.total}"></progress> '
            if progress.total
            else ""
        )
        status = "" if progress.headline == progress.status else f"{progress.status}: "
        told = "  ".join(filter(None, [status + progress.headline, progress.detail(time.time())]))
        lines = escape("\n".join(self._messages))
        return f"<div>{bar}{escape(told)}</div><pre>{lines}</pre>"

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= _SECONDS_BETWEEN_DRAWINGS:
            self._drawn_at = now
            self._draw_html(self.html())


def notebook_view() -> NotebookView:
    """Return a view in the output of the cell that is running."""
    display: Any = importlib.import_module("IPython.display")
    handle = display.display(display.HTML(""), display_id=True)
    return NotebookView(lambda html: handle.update(display.HTML(html)))
