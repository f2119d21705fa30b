"""Exact token counts, offline.

The vocabularies of OpenAI's models ship with the package. Counting runs on the fastest back end
that is installed (toktok, then tiktoken), or in plain Python without any extra; the counts are the
same. Open models have their own tokenizers: `huggingface(folder)`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .backends import Backend, HuggingFaceEncoder, load_encoder
from .billing import Estimate, estimate, estimate_message_tokens
from .encoder import (
    Encoder,
    TokenizerUnavailableError,
    UnknownEncodingError,
)
from .model_encodings import ENCODINGS, base_model, encoding_for_model
from .vocabulary import MAX_TOKEN_BYTES

if TYPE_CHECKING:
    import os

__all__ = [
    "ENCODINGS",
    "Backend",
    "Encoder",
    "Estimate",
    "TokenizerUnavailableError",
    "UnknownEncodingError",
    "base_model",
    "count",
    "encoder",
    "encoding_for_model",
    "estimate",
    "estimate_message_tokens",
    "fits",
    "huggingface",
]

_SHORTEST_PIECE = 256
_LONGEST_PIECE = 4  # times the limit, in characters: enough to decide for most long texts
# All four vocabularies start a new token at a space between two letters.
_BOUNDARY = re.compile(r"(?<=[a-zA-Z]) (?=[a-zA-Z])")


def encoder(encoding: str | Encoder = "r50k_base", backend: Backend = "auto") -> Encoder:
    """Return an encoder.

    Args:
        encoding: Name of an encoding or of a hosted model, or an encoder, which is returned as
            it is.
        backend: Which library counts; see `load_encoder`.

    Raises:
        UnknownEncodingError: No encoding is known for the name.
        TokenizerUnavailableError: The back end is not installed.
    """
    if not isinstance(encoding, str):
        return encoding
    return load_encoder(encoding_for_model(encoding), backend)


def count(text: str, encoding: str | Encoder = "r50k_base") -> int:
    """Return the exact number of tokens of a text; raises what `encoder` raises."""
    return encoder(encoding).count(text)


def fits(text: str, limit: int, encoding: str | Encoder = "r50k_base") -> bool:
    """Return whether a text has at most `limit` tokens; exact, and counts only as far as needed.

    A token of the published vocabularies is one to 128 bytes long, so a text of at most `limit`
    bytes always fits and one of more than `128 * limit` bytes never does. In between, the text is
    counted from its start until the answer is certain.
    """
    if not isinstance(encoding, str) and encoding.name not in ENCODINGS:
        return encoding.count(text) <= limit
    # A character is at most four bytes: most texts are decided without encoding them.
    if 4 * len(text) <= limit:
        return True
    size = len(text.encode("utf-8", "surrogatepass"))
    if size <= limit:
        return True
    if size > MAX_TOKEN_BYTES * limit:
        return False
    return _fits_piecewise(text, size, limit, encoder(encoding))


def _fits_piecewise(text: str, size: int, limit: int, counter: Encoder) -> bool:
    """Count piece by piece, until the limit is exceeded or the rest is certain to fit."""
    found = start = 0
    while (excess := size - (limit - found)) > 0:
        # Counting n bytes of English takes about 3/4 n off the excess.
        step = min(max(_SHORTEST_PIECE, excess * 4 // 3), _LONGEST_PIECE * limit)
        boundary = _BOUNDARY.search(text, start + step)
        end = boundary.start() if boundary else len(text)
        piece = text[start:end]
        found += counter.count(piece)
        if found > limit:
            return False
        size -= len(piece.encode("utf-8", "surrogatepass"))
        start = end
    return True


def huggingface(path: str | os.PathLike[str]) -> Encoder:
    """Return the encoder of an open model, from its folder or its `tokenizer.json`.

    Raises:
        TokenizerUnavailableError: The file is missing, or the package `tokenizers` is.
    """
    return HuggingFaceEncoder(path)
