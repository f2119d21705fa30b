"""What can go wrong when tokens are counted."""

from __future__ import annotations

from tunesmith.errors import TunesmithError

__all__ = ["TokenizerUnavailableError", "UnknownEncodingError"]


class UnknownEncodingError(TunesmithError, LookupError):
    """No encoding is known for this name."""


class TokenizerUnavailableError(TunesmithError, RuntimeError):
    """The tokenizer that was asked for is not installed or cannot be read."""
