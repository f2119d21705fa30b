"""From the text of a row to token ids, each with its weight in the loss.

Prompt and completion are tokenised apart, as they will be when the model is used: then,
too, the prompt stands alone. Only where a tokenizer writes a text differently at its start (it
puts a space before it) is the completion tokenised behind its prompt.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.datasets.training_defaults import DEFAULT_TOKEN_LIMIT
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.chat_template import ChatTemplate

from .rows import Segment, TextRow, read_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tunesmith.engine.domain.errors import TrainingErrorCode

__all__ = ["Example", "RowEncoder", "read_examples", "tokenize_rows", "tokenizer_template"]

_ROWS_PER_CALL = 512  # of the tokenizer, which is slow when called row by row
_THIN_UP_TO = 0.1
_STRIDE = 8
_PROMPT_AND_REPLY = 2  # segments


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised row.

    Attributes:
        tokens: Token ids, shape (length,).
        weights: Weight of predicting each token, shape (length,); 0 for the first, which
            nothing predicts.
        scored: Whether a token counts for accuracy and reported loss, shape (length,).
        completion: The text of the completion (prompt-completion rows); "" for a chat.
        line: The line of the file that it comes from; several may come from one.
        omitted_reasoning: Replies whose thoughts the chat template has no place for.
    """

    tokens: np.ndarray
    weights: np.ndarray
    scored: np.ndarray
    completion: str = ""
    line: int = 0
    omitted_reasoning: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


def read_examples(
    path: Path,
    tokenizer: Any,
    template: ChatTemplate | None = None,
    *,
    prompt_loss_weight: float = 0.0,
    max_tokens: int = DEFAULT_TOKEN_LIMIT,
    code: TrainingErrorCode = "invalid_training_file",
) -> list[Example]:
    """Read and tokenise a JSONL file of prompt-completion rows or of chats.

    Args:
        path: The file.
        tokenizer: The base model's tokenizer.
        template: Its chat template; default: that of the tokenizer.
        prompt_loss_weight: Weight in the loss of the tokens that are not learned.
        max_tokens: Most tokens of an example.
        code: Code of the error for a file that cannot be used.

    Raises:
        TrainingError: The file has no examples, or a line cannot be used; the message names it.
    """
    rows = read_texts(path, template or tokenizer_template(tokenizer), code)
    return tokenize_rows(
        rows, tokenizer, prompt_loss_weight=prompt_loss_weight, max_tokens=max_tokens, code=code
    )


def tokenizer_template(tokenizer: Any, end_ids: Iterable[int] = ()) -> ChatTemplate:
    """Return the chat template of a tokenizer of transformers; the rest as in `ChatTemplate.of`."""
    names = tokenizer.special_tokens_map
    return ChatTemplate.of(tokenizer, names, tokenizer.chat_template, end_ids)


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
    encoder = RowEncoder(tokenizer)
    examples: list[Example] = []
    while chunk := list(itertools.islice(rows, _ROWS_PER_CALL)):
        for row, tokens, learned in encoder.encode(chunk):
            _check(row, tokens, learned, max_tokens, code)
            start = prefix if row.is_plain else []
            if learned[0] and not start:
                start = [_start_token(tokenizer)]
            scored = np.array([False] * len(start) + learned)
            prompt_weights = _prompt_weights(prompt_loss_weight, len(scored), row.line)
            weights = np.where(scored, 1.0, prompt_weights).astype(np.float32)
            weights[0] = 0.0
            ids = np.array(start + tokens, dtype=np.int64)
            examples.append(
                Example(ids, weights, scored, row.completion, row.line, row.omitted_reasoning)
            )
    return examples


def check_texts(
    rows: Iterable[TextRow], tokenizer: Any, *, max_tokens: int, code: TrainingErrorCode
) -> None:
    """Check that rows can be learned, without keeping them; see `tokenize_rows`.

    A token stands for at least one byte, so only long rows are tokenised.

    Raises:
        TrainingError: A row has nothing to learn, or too many tokens.
    """
    encoder = RowEncoder(tokenizer)
    for row in rows:
        learned = [segment.learned and bool(segment.text) for segment in row.segments]
        size = len(_text(row.segments).encode())
        if any(learned) and size <= max_tokens:
            continue
        for part, tokens, is_learned in encoder.encode([row]):
            _check(part, tokens, is_learned, max_tokens, code)


class RowEncoder:
    """Tokenises texts so that each prompt in them has the tokens that are served.

    Args:
        tokenizer: Tokenises a list of texts when called, as those of transformers do.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        both, first, second = self._tokens(["a b", "a", " b"])
        self._can_join = both == first + second

    def encode(self, rows: Sequence[TextRow]) -> Iterator[tuple[TextRow, list[int], list[bool]]]:
        """Yield token ids, and whether each is learned, of each row.

        A row with several replies becomes one for each of them if the prompts of the later ones
        have other tokens alone than behind the earlier ones.
        """
        pieces = [segment.text for row in rows for segment in row.segments]
        several = [row for row in rows if len(row.segments) > _PROMPT_AND_REPLY]
        joined = [] if self._can_join else [_text(row.segments) for row in rows]
        encoded = self._tokens([*pieces, *map(_last_prompt, several), *joined])
        parts = iter(encoded)
        by_row = [[next(parts) for _ in row.segments] for row in rows]
        served = {id(row): next(parts) for row in several}
        whole = {id(row): next(parts) for row in rows} if joined else {}
        for row, segments in zip(rows, by_row, strict=True):
            if id(row) in served:
                before = list(itertools.chain.from_iterable(segments[:-1]))
                if before != served[id(row)] or joined:
                    yield from self.encode(_one_by_one(row))
                    continue
            elif whole and whole[id(row)][: len(segments[0])] == segments[0]:
                segments[-1] = whole[id(row)][len(segments[0]) :]
            tokens: list[int] = []
            learned: list[bool] = []
            for segment, ids in zip(row.segments, segments, strict=True):
                tokens += ids
                learned += [segment.learned] * len(ids)
            yield row, tokens, learned

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return list(self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])


def _text(segments: Iterable[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def _last_prompt(row: TextRow) -> str:
    return _text(row.segments[:-1])


def _one_by_one(row: TextRow) -> list[TextRow]:
    """Return a row for each reply of a row, with the whole prompt before it."""
    ends = range(1, len(row.segments), _PROMPT_AND_REPLY)
    first, *others = [
        TextRow(row.line, [Segment(_text(row.segments[:end]), learned=False), row.segments[end]])
        for end in ends
    ]
    return [replace(first, omitted_reasoning=row.omitted_reasoning), *others]


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
        msg = f"Line {row.line}: there is nothing to learn. The completion is empty."
        raise TrainingError(msg, code)
    if len(tokens) > max_tokens:
        msg = (
            f"Line {row.line} has {len(tokens):,} tokens; an example may have {max_tokens:,}, "
            "prompt and completion together. Shorten it or remove it."
        )
        raise TrainingError(msg, code)
