"""From a line of the training file to text, cut into what is learned and what is not.

A chat goes through the model's own template; the assistant's turns whose weight is not 0
are learned, up to the token that ends the turn. Knows no token ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.domain.tool_messages import knows_tools, with_tools_as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tunesmith.engine.domain.errors import TrainingErrorCode

__all__ = ["Segment", "TextRow", "read_rows", "render_chat", "render_row"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text, and whether the model learns to write it."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class TextRow:
    """The text of one line.

    Attributes:
        line: Its number in the file, 1 for the first.
        segments: The text in order.
        completion: The completion of a prompt-completion row; "" for a chat.
    """

    line: int
    segments: list[Segment]
    completion: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether special tokens are still missing; in a chat the template has written them."""
        return bool(self.completion)


def read_rows(path: Path, code: TrainingErrorCode) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row of a JSONL file with its line number, 1 for the first; skip blank lines.

    Args:
        path: The file.
        code: Code of the error for a file that cannot be used.

    Raises:
        TrainingError: A line is not a JSON object in UTF-8, or there are no rows.
    """
    has_rows = False
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
            has_rows = True
            yield number, row
    if not has_rows:
        msg = "The file has no examples."
        raise TrainingError(msg, code)


def render_row(row: dict[str, Any], tokenizer: Any, line: int, code: TrainingErrorCode) -> TextRow:
    """Return the text of a prompt-completion row or of a chat.

    Raises:
        TrainingError: The row is neither, or the chat cannot be rendered.
    """
    if isinstance(row.get("messages"), list):
        return render_chat(tokenizer, row["messages"], row.get("tools"), line, code)
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        msg = (
            f'Line {line} of the file needs either "prompt" and "completion" as strings, '
            'or "messages" as a list.'
        )
        raise TrainingError(msg, code)
    return TextRow(
        line, [Segment(prompt, learned=False), Segment(completion, learned=True)], completion
    )


def _without_tools(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    line: int,
    code: TrainingErrorCode,
) -> tuple[list[dict[str, Any]], None]:
    """Return a chat with its tools and calls as text, in which serving writes them, too."""
    try:
        return with_tools_as_text(messages, tools), None
    except (AttributeError, KeyError, TypeError):
        msg = (
            f'Line {line}: each of "tool_calls" must be an object with a "function", which has '
            'a "name" and "arguments".'
        )
        raise TrainingError(msg, code) from None


def render_chat(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    line: int,
    code: TrainingErrorCode,
) -> TextRow:
    """Return a chat as the model's template writes it, cut at both ends of each learned turn.

    Raises:
        TrainingError: The model has no chat template, or the template rejects the messages.
    """
    if not tokenizer.chat_template:
        msg = (
            "The base model has no chat template, so it cannot learn from chats. Use prompt and "
            "completion rows, or a base model made for chat."
        )
        raise TrainingError(msg, "invalid_model")

    if not knows_tools(str(tokenizer.chat_template)):
        messages, tools = _without_tools(messages, tools, line, code)

    def render(count: int, *, add_generation_prompt: bool) -> str:
        """Return the first `count` messages as text."""
        try:
            return str(
                tokenizer.apply_chat_template(
                    messages[:count],
                    tools=tools,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except Exception as error:
            # Templates are programs of the model's authors and fail in their own ways.
            msg = f"Line {line}: the base model's chat template cannot render the chat: {error}"
            raise TrainingError(msg, code) from error

    segments: list[Segment] = []
    written = ""

    def append(text: str, *, learned: bool) -> None:
        """Append what `text` has beyond the segments so far."""
        nonlocal written
        if not text.startswith(written):
            msg = (
                f"Line {line}: the base model's chat template rewrites earlier turns, so one row "
                "cannot teach several replies. Split it into one row per reply, each ending "
                "with that reply."
            )
            raise TrainingError(msg, code)
        segments.append(Segment(text[len(written) :], learned))
        written = text

    for index, message in enumerate(messages):
        if message.get("role") == "assistant" and message.get("weight", 1) != 0:
            append(render(index, add_generation_prompt=True), learned=False)
            text = render(index + 1, add_generation_prompt=False)
            # What follows the end of the turn, usually a line break, is never generated.
            end = text.rfind(tokenizer.eos_token or "\0", len(written))
            append(text[: end + len(tokenizer.eos_token)] if end >= 0 else text, learned=True)
    return TextRow(line, segments)
