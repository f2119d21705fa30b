"""From a line of the training file to token numbers, each with its weight in the loss.

Prompt and completion are tokenised apart, as they will be when the model is used:
there the prompt stands alone too. A chat goes through the model's own template;
the loss is on the assistant's turns whose weight is not 0, up to the token that
ends the turn.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.engine.training.errors import ErrorCode, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "Example",
    "Row",
    "Segment",
    "encode_segments",
    "read_examples",
    "read_rows",
    "render_chat",
    "tokenize_rows",
]

_TOKENISED_AT_ONCE = 512
_THINNED_UP_TO = 0.1
_STRIDE = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text, and whether the model is to learn to write it."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One row, tokenised.

    Attributes:
        tokens: Token numbers, shape (length,).
        weights: Weight of predicting each token; the first cannot be predicted and has 0.
        scored: Whether a token counts for accuracy and for the reported loss.
        completion: The completion's text (prompt-completion rows); "" for a chat.
    """

    tokens: np.ndarray
    weights: np.ndarray
    scored: np.ndarray
    completion: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


def read_rows(path: Path, code: ErrorCode) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row with its line number, 1 for the first; blank lines are passed over.

    Raises:
        TrainingError: A line is no JSON object in UTF-8, or there is no row at all.
    """
    found = False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                msg = f"Line {number} of the file is not valid JSON: {error}."
                raise TrainingError(msg, code) from None
            if not isinstance(row, dict):
                msg = f"Line {number} of the file is not a JSON object."
                raise TrainingError(msg, code)
            found = True
            yield number, row
    if not found:
        msg = "The file has no examples."
        raise TrainingError(msg, code)


def read_examples(
    path: Path,
    tokenizer: Any,
    *,
    prompt_loss_weight: float,
    max_tokens: int,
    code: ErrorCode = "invalid_training_file",
) -> list[Example]:
    """Read and tokenise a file of prompt-completion rows or of chats.

    Args:
        path: JSONL.
        tokenizer: The base model's tokenizer.
        prompt_loss_weight: Weight of the tokens that are not to be learned.
        max_tokens: The longest example allowed.
        code: What to call the file's faults.

    Raises:
        TrainingError: The file has no examples, or a line cannot be used; it is named.
    """
    rows = (_row(row, tokenizer, line, code) for line, row in read_rows(path, code))
    return tokenize_rows(
        rows, tokenizer, prompt_loss_weight=prompt_loss_weight, max_tokens=max_tokens, code=code
    )


def tokenize_rows(
    rows: Iterator[Row],
    tokenizer: Any,
    *,
    prompt_loss_weight: float,
    max_tokens: int,
    code: ErrorCode,
) -> list[Example]:
    """Tokenise rows.

    Raises:
        TrainingError: A row has nothing to learn, or too many tokens.
    """
    start = _start(tokenizer)
    examples: list[Example] = []
    while chunk := list(itertools.islice(rows, _TOKENISED_AT_ONCE)):
        encoded = encode_segments([row.segments for row in chunk], tokenizer)
        for row, (tokens, learned) in zip(chunk, encoded, strict=True):
            _check(row, tokens, learned, max_tokens, code)
            opening = start if row.is_plain else []
            if learned[0] and not opening:
                opening = [_opening_token(tokenizer)]
            scored = np.array([False] * len(opening) + learned)
            weights = np.where(scored, 1.0, _thinned(prompt_loss_weight, len(scored), row.line))
            weights = weights.astype(np.float32)
            weights[0] = 0.0
            numbers = np.array(opening + tokens, dtype=np.int64)
            examples.append(Example(numbers, weights, scored, row.completion))
    return examples


@dataclass(frozen=True, slots=True)
class Row:
    """One line's text.

    Attributes:
        completion: The completion of a prompt-completion row; "" for a chat.
    """

    line: int
    segments: list[Segment]
    completion: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is text alone; a chat's template has written the special tokens already."""
        return bool(self.completion)


def _row(row: dict[str, Any], tokenizer: Any, line: int, code: ErrorCode) -> Row:
    if isinstance(row.get("messages"), list):
        return render_chat(tokenizer, row["messages"], row.get("tools"), line, code)
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        msg = (
            f'Line {line} of the file needs either "prompt" and "completion" as strings, '
            'or "messages" as a list.'
        )
        raise TrainingError(msg, code)
    segments = [Segment(prompt, learned=False), Segment(completion, learned=True)]
    return Row(line, segments, completion)


def _thinned(weight: float, length: int, line: int) -> NDArray[np.float64]:
    """Return the weight of each of `length` positions if it is the prompt's.

    A small weight is put on every eighth position, eight times as large, beginning at
    another place in each line: what the prompts teach is the same on average, and the
    output layer, which costs as much as several others, is spared the rest.
    """
    if weight > _THINNED_UP_TO:
        return np.full(length, weight)
    return np.where((np.arange(length) + line) % _STRIDE == 0, weight * _STRIDE, 0.0)


def _start(tokenizer: Any) -> list[int]:
    """Return the tokens that the tokenizer puts before any text, a beginning-of-text token say."""
    numbers = list(tokenizer("")["input_ids"])
    return numbers[:1] if numbers and numbers[0] == tokenizer.bos_token_id else []


def _opening_token(tokenizer: Any) -> int:
    """Return what stands before a completion without a prompt: something must."""
    known = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return next((number for number in known if number is not None), 0)


def _check(row: Row, tokens: list[int], learned: list[bool], most: int, code: ErrorCode) -> None:
    if not any(learned):
        msg = (
            f"Line {row.line}: there is nothing to learn. The completion is empty, or no message "
            "of the assistant has a weight other than 0."
        )
        raise TrainingError(msg, code)
    if len(tokens) > most:
        msg = (
            f"Line {row.line} has {len(tokens):,} tokens; an example may have {most:,}, "
            "prompt and completion together. Shorten it or take it out."
        )
        raise TrainingError(msg, code)


def render_chat(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    line: int,
    code: ErrorCode,
) -> Row:
    """Return a chat as the model's template writes it, cut where a learned turn begins and ends.

    Raises:
        TrainingError: The model has no chat template, or the template refuses the messages.
    """
    if not tokenizer.chat_template:
        msg = (
            "The base model has no chat template, so it cannot learn from chats. Use prompt and "
            "completion rows, or a base model made for chat."
        )
        raise TrainingError(msg, "invalid_model")

    def render(upto: int, *, reply: bool) -> str:
        try:
            return str(
                tokenizer.apply_chat_template(
                    messages[:upto], tools=tools, tokenize=False, add_generation_prompt=reply
                )
            )
        except Exception as error:
            # Templates are programs of the model's makers and fail in their own ways.
            msg = f"Line {line}: the base model's chat template cannot write the chat: {error}"
            raise TrainingError(msg, code) from error

    segments: list[Segment] = []
    written = ""

    def add(text: str, *, learned: bool) -> None:
        nonlocal written
        if not text.startswith(written):
            msg = (
                f"Line {line}: the base model's chat template rewrites earlier turns, so one row "
                "cannot teach several replies. Make one row of each reply, the last turn."
            )
            raise TrainingError(msg, code)
        segments.append(Segment(text[len(written) :], learned))
        written = text

    for place, message in enumerate(messages):
        if message.get("role") == "assistant" and message.get("weight", 1) != 0:
            add(render(place, reply=True), learned=False)
            whole = render(place + 1, reply=False)
            # What follows the end of the turn, a line break usually, is never generated.
            end = whole.rfind(tokenizer.eos_token or "\0", len(written))
            add(whole[: end + len(tokenizer.eos_token)] if end >= 0 else whole, learned=True)
    return Row(line, segments)


def encode_segments(
    rows: Sequence[Iterable[Segment]], tokenizer: Any
) -> Iterator[tuple[list[int], list[bool]]]:
    """Yield each row's token numbers, and whether each is to be learned."""
    flat = [segment for row in rows for segment in row]
    encoded = iter(_encode([segment.text for segment in flat], tokenizer))
    for row in rows:
        tokens: list[int] = []
        learned: list[bool] = []
        for segment in row:
            numbers = next(encoded)
            tokens += numbers
            learned += [segment.learned] * len(numbers)
        yield tokens, learned


def _encode(texts: list[str], tokenizer: Any) -> list[list[int]]:
    if not texts:
        return []
    return list(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
