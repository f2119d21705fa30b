"""Estimates a fine-tune: epochs, steps, billed tokens and, where a price is given, the cost.

Epochs and batch size default to those of the APIs (see `training_defaults`). Prices change, so the
caller passes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.training_defaults import (
    LEGACY_EPOCHS,
    default_batch_size,
    default_epochs,
)

from .backends import load_encoder
from .conversations import TOKENS_PER_ROW, message_texts, tool_texts
from .model_encodings import encoding_for_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .encoder import Encoder

__all__ = ["Estimate", "estimate", "estimate_message_tokens"]


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
    rules = {"auto": default_epochs(rows), "legacy": LEGACY_EPOCHS}
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
    messages: Sequence[Mapping[str, Any]],
    encoding: str | Encoder = "o200k_base",
    *,
    tools: Sequence[Mapping[str, Any]] = (),
) -> int:
    """Estimate the tokens of a conversation: texts exactly, the markers around them by rule.

    Three tokens for each message, one for a name, three at the end (OpenAI cookbook). Calls count
    with their names and arguments, tools as JSON. Images have no published rule and are not
    counted; neither are weights.

    Args:
        messages: The messages.
        encoding: Name of an encoding or of a hosted model, or an encoder.
        tools: The tools that the row declares.
    """
    encoder = load_encoder(encoding_for_model(encoding)) if isinstance(encoding, str) else encoding
    texts, extra = message_texts(messages)
    return (
        sum(encoder.count_batch(texts + tool_texts({"tools": list(tools)})))
        + extra
        + (TOKENS_PER_ROW)
    )
