"""What every back end that counts tokens offers, and the errors that it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Encoder", "TokenizerUnavailableError", "UnknownEncodingError", "replace_surrogates"]


class UnknownEncodingError(TunesmithError, LookupError):
    """No encoding is known for this name."""


class TokenizerUnavailableError(TunesmithError, RuntimeError):
    """The requested tokenizer is not installed or cannot be read."""


class Encoder(Protocol):
    """Counts and lists the tokens of plain text; special tokens in it are treated as plain text.

    Encoders of the published vocabularies replace a lone surrogate, which no UTF-8 file can hold,
    with U+FFFD, as tiktoken does.
    """

    @property
    def name(self) -> str:
        """Name of the encoding."""
        ...

    def count(self, text: str) -> int:
        """Return the number of tokens of one text."""
        ...

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text; the fastest way to count many."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the tokens of one text."""
        ...


def replace_surrogates(text: str) -> str:
    """Return the text with each lone surrogate replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
