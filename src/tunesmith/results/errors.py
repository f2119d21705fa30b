"""The errors of reading results."""

from __future__ import annotations

from tunesmith.errors import TunesmithError

__all__ = ["ResultFileError"]


class ResultFileError(TunesmithError):
    """A result file is not one, or is damaged; the message names the line and the column."""
