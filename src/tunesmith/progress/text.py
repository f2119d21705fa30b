"""Formatting for people: safe text for terminals, clock times, durations."""

from __future__ import annotations

import time

__all__ = ["clock", "duration", "printable"]


def printable(text: str) -> str:
    """Return text without control characters; untrusted text could steer the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\ufffd"
        for character in text
    )


def clock(seconds: float) -> str:
    """Return the local time of day of a Unix time, "14:05:09"."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Return "1:02:03", or "2:03" below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
