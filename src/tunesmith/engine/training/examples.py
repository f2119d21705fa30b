"""From the text of a row to token ids, each with its weight in the loss.

Prompt and completion are tokenised apart, as they will be when the model is used: then,
too, the prompt stands alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.datasets.training_defaults import DEFAULT_TOKEN_LIMIT
from tunesmith.engine.domain.errors import TrainingError

from .rows import read_rows, render_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tunesmith.engine.domain.errors import TrainingErrorCode

    from .rows import Segment, TextRow

__all__ = ["Example", "encode_segments", "read_examples", "tokenize_rows"]

_ROWS_PER_CALL = 512  # of the tokenizer, which is slow when called row by row
_THIN_UP_TO = 0.1
_STRIDE = 8


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised row.

    Attributes:
        tokens: Token ids, shape (length,).
        weights: Weight of predicting each token, shape (length,); 0 for the first, which
            nothing predicts.
        scored: Whether a token counts for accuracy and reported loss, shape (length,).
        completion: The text of the completion (prompt-completion rows); "" for a chat.
    """

    tokens: np.ndarray
    weights: np.ndarray
    scored: np.ndarray
    completion: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


def read_examples(
    path: Path,
    tokenizer: Any,
    *,
    prompt_loss_weight: float = 0.0,
    max_tokens: int = DEFAULT_TOKEN_LIMIT,
    code: TrainingErrorCode = "invalid_training_file",
) -> list[Example]:
    """Read and tokenise a JSONL file of prompt-completion rows or of chats.

    Args:
        path: The file.
        tokenizer: The base model's tokenizer.
        prompt_loss_weight: Weight in the loss of the tokens that are not learned.
        max_tokens: Most tokens of an example.
        code: Code of the error for a file that cannot be used.

    Raises:
        TrainingError: The file has no examples, or a line cannot be used; the message names it.
    """
    rows = (render_row(row, tokenizer, line, code) for line, row in read_rows(path, code))
    return tokenize_rows(
        rows, tokenizer, prompt_loss_weight=prompt_loss_weight, max_tokens=max_tokens, code=code
    )


def tokenize_rows(
    rows: Iterator[TextRow],
    tokenizer: Any,
    *,
    prompt_loss_weight: float,
    max_tokens: int,
    code: TrainingErrorCode,
) -> list[Example]:
    """Tokenise rows; the arguments are those of `read_examples`.

    Raises:
        TrainingError: A row has nothing to learn, or too many tokens.
    """
    prefix = _prefix(tokenizer)
    examples: list[Example] = []
    while chunk := list(itertools.islice(rows, _ROWS_PER_CALL)):
        encoded = encode_segments([row.segments for row in chunk], tokenizer)
        for row, (tokens, learned) in zip(chunk, encoded, strict=True):
            _check(row, tokens, learned, max_tokens, code)
            start = prefix if row.is_plain else []
            if learned[0] and not start:
                start = [_start_token(tokenizer)]
            scored = np.array([False] * len(start) + learned)
            prompt_weights = _prompt_weights(prompt_loss_weight, len(scored), row.line)
            weights = np.where(scored, 1.0, prompt_weights).astype(np.float32)
            weights[0] = 0.0
            ids = np.array(start + tokens, dtype=np.int64)
            examples.append(Example(ids, weights, scored, row.completion))
    return examples


def encode_segments(
    rows: Sequence[Iterable[Segment]], tokenizer: Any
) -> Iterator[tuple[list[int], list[bool]]]:
    """Yield each row's token ids, and whether each token is learned."""
    texts = [segment.text for row in rows for segment in row]
    encoded = iter(_encode(texts, tokenizer))
    for row in rows:
        tokens: list[int] = []
        learned: list[bool] = []
        for segment in row:
            ids = next(encoded)
            tokens += ids
            learned += [segment.learned] * len(ids)
        yield tokens, learned


def _encode(texts: list[str], tokenizer: Any) -> list[list[int]]:
    if not texts:
        return []
    return list(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])


def _prompt_weights(weight: float, length: int, line: int) -> NDArray[np.float64]:
    """Return the weight of each position as if it were the prompt's, shape (length,).

    A small weight is put on every eighth position, eight times as large, starting at a
    different position in each line. The gradient is the same on average, and the output
    layer, which costs as much as several others, computes an eighth of the positions.
    """
    if weight > _THIN_UP_TO:
        return np.full(length, weight)
    return np.where((np.arange(length) + line) % _STRIDE == 0, weight * _STRIDE, 0.0)


def _prefix(tokenizer: Any) -> list[int]:
    """Return what the tokenizer puts before any text: a beginning-of-text token, or nothing."""
    ids = list(tokenizer("")["input_ids"])
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _start_token(tokenizer: Any) -> int:
    """Return the token from which the first token of a completion without prompt is predicted."""
    candidates = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return next((token for token in candidates if token is not None), 0)


def _check(
    row: TextRow, tokens: list[int], learned: list[bool], max_tokens: int, code: TrainingErrorCode
) -> None:
    if not any(learned):
        msg = (
            f"Line {row.line}: there is nothing to learn. The completion is empty, or no message "
            "of the assistant has a weight other than 0."
        )
        raise TrainingError(msg, code)
    if len(tokens) > max_tokens:
        msg = (
            f"Line {row.line} has {len(tokens):,} tokens; an example may have {max_tokens:,}, "
            "prompt and completion together. Shorten it or remove it."
        )
        raise TrainingError(msg, code)
