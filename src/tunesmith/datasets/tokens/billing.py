"""Estimates a fine-tune: epochs, steps, billed tokens and, where a price is given, the cost.

The defaults follow two rules. The legacy API (`/v1/fine-tunes`) trained for four epochs with a
batch of 0.2 % of the examples, at most 256. The fine-tuning jobs API chooses between one and 25
epochs so that between 100 and 25,000 examples are seen, aiming at three epochs (OpenAI cookbook,
"Data preparation and analysis for chat model fine-tuning"). Prices change, so the caller passes
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from tunesmith.datasets.dataset_errors import DatasetError

from .backends import load_encoder
from .model_encodings import encoding_for_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .encoder import Encoder

__all__ = ["Estimate", "auto_epochs", "default_batch_size", "estimate", "estimate_message_tokens"]

TARGET_EPOCHS: Final = 3
FEWEST_EXAMPLES_SEEN: Final = 100
MOST_EXAMPLES_SEEN: Final = 25_000
MOST_EPOCHS: Final = 25
LEGACY_EPOCHS: Final = 4
LARGEST_BATCH: Final = 256

_PER_MESSAGE: Final = 3
_PER_NAME: Final = 1
_PER_EXAMPLE: Final = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated size of a fine-tune.

    Attributes:
        rows: Training examples.
        tokens: Their tokens; with a limit, those of the truncated rows.
        truncated_rows: Rows longer than the limit.
        n_epochs: Passes over the data.
        batch_size: Examples in a step.
        steps: Steps of training.
        billed_tokens: Tokens times epochs.
        cost: In the currency of the price, or None without one.
    """

    rows: int
    tokens: int
    truncated_rows: int
    n_epochs: int
    batch_size: int
    steps: int
    billed_tokens: int
    cost: float | None = None


def auto_epochs(rows: int) -> int:
    """Return how many epochs the fine-tuning jobs API chooses for a number of examples."""
    if rows * TARGET_EPOCHS < FEWEST_EXAMPLES_SEEN:
        return min(MOST_EPOCHS, FEWEST_EXAMPLES_SEEN // max(1, rows))
    if rows * TARGET_EPOCHS > MOST_EXAMPLES_SEEN:
        return max(1, MOST_EXAMPLES_SEEN // rows)
    return TARGET_EPOCHS


def default_batch_size(rows: int) -> int:
    """Return 0.2 % of the examples, at least one and at most 256."""
    return min(LARGEST_BATCH, max(1, round(rows * 0.002)))


def estimate(
    row_tokens: Iterable[int],
    *,
    n_epochs: int | Literal["auto", "legacy"] = "auto",
    batch_size: int | None = None,
    token_limit: int | None = None,
    price_per_million: float | None = None,
) -> Estimate:
    """Estimate a fine-tune from the tokens of its rows.

    Args:
        row_tokens: Tokens of each training example.
        n_epochs: A number, or the rule of an API: "auto" for the fine-tuning jobs API, "legacy" for
            the legacy API.
        batch_size: Examples in a step; default: 0.2 % of them.
        token_limit: Tokens at which a row is truncated.
        price_per_million: Price of a million training tokens.

    Raises:
        DatasetError: `n_epochs` or `batch_size` is less than one.
    """
    counts = list(row_tokens)
    rows = len(counts)
    kept = [count if token_limit is None else min(count, token_limit) for count in counts]
    rules = {"auto": auto_epochs(rows), "legacy": LEGACY_EPOCHS}
    epochs = rules[n_epochs] if isinstance(n_epochs, str) else n_epochs
    batch = default_batch_size(rows) if batch_size is None else batch_size
    if epochs < 1 or batch < 1:
        raise DatasetError("n_epochs and batch_size must be at least 1.")
    billed = sum(kept) * epochs
    return Estimate(
        rows=rows,
        tokens=sum(kept),
        truncated_rows=sum(before > after for before, after in zip(counts, kept, strict=True)),
        n_epochs=epochs,
        batch_size=batch,
        steps=ceil(rows / batch) * epochs,
        billed_tokens=billed,
        cost=None if price_per_million is None else billed * price_per_million / 1e6,
    )


def estimate_message_tokens(
    messages: Sequence[Mapping[str, Any]], encoding: str | Encoder = "o200k_base"
) -> int:
    """Estimate the tokens of a conversation: texts exactly, the markers around them by rule.

    Three tokens for each message, one for a name, three at the end (OpenAI cookbook). Tools and
    images have no published rule and are not counted; neither are weights.
    """
    encoder = load_encoder(encoding_for_model(encoding)) if isinstance(encoding, str) else encoding
    total = _PER_EXAMPLE
    for message in messages:
        total += _PER_MESSAGE + (_PER_NAME if "name" in message else 0)
        total += sum(encoder.count_batch(_texts(message)))
    return total


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message.get("content")
    parts: list[Any] = []
    if isinstance(content, list):
        parts = content  # pyright: ignore[reportUnknownVariableType] # JSON
    texts: list[Any] = [content, message.get("role"), message.get("name")]
    texts += [cast("dict[str, Any]", part).get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]
