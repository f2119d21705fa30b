"""From a line of the training file to text, cut into what is learned and what is not.

A chat goes through the model's own template; the assistant's turns whose weight is not 0
are learned, up to the token that ends the turn, each after the prompt that is served for it.
Knows no token ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.chat_messages import MessageError, normalize_messages, normalize_tools
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.chat_template import TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tunesmith.engine.domain.errors import TrainingErrorCode
    from tunesmith.engine.models.chat_template import ChatTemplate

__all__ = [
    "Segment",
    "TextRow",
    "read_preference_texts",
    "read_rows",
    "read_texts",
    "render_chat",
    "render_row",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text, and whether the model learns to write it."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class TextRow:
    """The text of one line, or of those replies of it that can be learned together.

    Attributes:
        line: Its number in the file, 1 for the first.
        segments: The text in order. In a chat a prompt and a reply take turns.
        completion: The completion of a prompt-completion row; "" for a chat.
        omitted_reasoning: Replies whose thoughts the template has no place for.
    """

    line: int
    segments: list[Segment]
    completion: str = ""
    omitted_reasoning: int = 0

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


def read_texts(path: Path, template: ChatTemplate, code: TrainingErrorCode) -> Iterator[TextRow]:
    """Yield the texts of a file of prompt-completion rows or of chats.

    Raises:
        TrainingError: The file has no rows, or a line cannot be used; the message names it.
    """
    for line, row in read_rows(path, code):
        yield from render_row(row, template, line, code)


def read_preference_texts(
    path: Path, template: ChatTemplate, code: TrainingErrorCode
) -> Iterator[TextRow]:
    """Yield the texts of a file of preference rows: two for each row, the preferred first.

    Raises:
        TrainingError: The file has no rows, or a line cannot be used; the message names it.
    """
    for line, row in read_rows(path, code):
        yield from _pair(row, template, line, code)


def render_row(
    row: dict[str, Any], template: ChatTemplate, line: int, code: TrainingErrorCode
) -> Iterator[TextRow]:
    """Yield the texts of a row: one of a prompt-completion row, one or more of a chat.

    Raises:
        TrainingError: The row is neither, or the chat cannot be rendered.
    """
    if isinstance(row.get("messages"), list):
        tools, functions = row.get("tools"), row.get("functions")
        yield from render_chat(template, row["messages"], tools, line, code, functions=functions)
        return
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        msg = (
            f'Line {line} of the file needs either "prompt" and "completion" as strings, '
            'or "messages" as a list.'
        )
        raise TrainingError(msg, code)
    yield TextRow(
        line, [Segment(prompt, learned=False), Segment(completion, learned=True)], completion
    )


def render_chat(
    template: ChatTemplate,
    messages: list[Any],
    tools: Any,
    line: int,
    code: TrainingErrorCode,
    *,
    functions: Any = None,
) -> Iterator[TextRow]:
    """Yield the texts from which the replies of a chat are learned.

    Replies of one text share their context. That works where the prompt for a later reply is
    the text so far with more behind it, which many templates do not write: they drop earlier
    thoughts, say. A reply whose prompt is another one begins another text.

    Args:
        template: That of the base model.
        messages: The messages of the row.
        tools: The tools that it declares.
        line: Its line.
        code: Code of the error for a row that cannot be used.
        functions: The functions that it declares, the older form of tools.

    Raises:
        TrainingError: The model has no chat template, the template rejects the messages or
            leaves out a part of them, or there is no reply to learn.
    """
    if not template.source:
        msg = (
            "The base model has no chat template, so it cannot learn from chats. Use prompt and "
            "completion rows, or a base model made for chat."
        )
        raise TrainingError(msg, "invalid_model")
    try:
        conversation = normalize_messages(messages)
        declared = normalize_tools(tools, functions)
    except MessageError as error:
        msg = f"Line {line}: {error}"
        raise TrainingError(msg, code) from None
    row = TextRow(line, [])
    for index, message in enumerate(conversation):
        if message["role"] != "assistant" or messages[index].get("weight", 1) == 0:
            continue
        try:
            turn = template.turn(conversation[: index + 1], declared)
        except TemplateError as error:
            msg = (
                f"Line {line}: the base model's chat template cannot write messages[{index}] or "
                f"what comes before it: {str(error).rstrip('.')}."
            )
            raise TrainingError(msg, code) from error
        written = "".join(segment.text for segment in row.segments)
        if not turn.prompt.startswith(written):
            yield row
            row, written = TextRow(line, []), ""
        segments = [
            *row.segments,
            Segment(turn.prompt[len(written) :], learned=False),
            Segment(turn.reply, learned=True),
        ]
        row = TextRow(line, segments, "", row.omitted_reasoning + turn.omitted_reasoning)
    if not row.segments:
        msg = (
            f"Line {line}: there is nothing to learn. No message of the assistant has a weight "
            "other than 0."
        )
        raise TrainingError(msg, code)
    yield row


def _pair(
    row: dict[str, Any], template: ChatTemplate, line: int, code: TrainingErrorCode
) -> Iterator[TextRow]:
    request = row.get("input")
    replies = row.get("preferred_output"), row.get("non_preferred_output")
    if (
        not isinstance(request, dict)
        or not isinstance(request.get("messages"), list)
        or not all(isinstance(reply, list) and reply for reply in replies)
    ):
        msg = (
            f'Line {line} of the file needs "input" with "messages", and "preferred_output" and '
            '"non_preferred_output" as lists of messages.'
        )
        raise TrainingError(msg, code)
    prompt = [_weighted(message, 0) for message in request["messages"]]
    for reply in replies:
        messages = [*prompt, *(_weighted(message, 1) for message in reply or ())]
        written = [*render_chat(template, messages, request.get("tools"), line, code)]
        if len(written) > 1 or sum(segment.learned for segment in written[0].segments) > 1:
            msg = f"Line {line}: a reply has several messages. Give each reply as one message."
            raise TrainingError(msg, code)
        yield from written


def _weighted(message: Any, weight: int) -> Any:
    return {**message, "weight": weight} if isinstance(message, dict) else message
