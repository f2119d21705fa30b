"""The formats in which people have training data, and how the format of a row is recognised.

A row is recognised by its keys and by the form of their values, never by its texts. Four formats
are those that services train on (see `rows`); the others can be converted (see `conversion`), or
are at least named when they are refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tunesmith._lazy import set_public_module

from .json_text import decoded
from .json_types import is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "DATA_FORMATS",
    "QUESTION_COLUMNS",
    "DataFormat",
    "FormatName",
    "holds_conversation",
    "question_columns",
    "recognise",
    "recognise_rows",
]

FormatName: TypeAlias = Literal[
    "prompt_completion",
    "chat",
    "preference",
    "reinforcement",
    "alpaca",
    "sharegpt",
    "trl_preference",
    "trl_prompt_completion",
    "trl_prompt",
    "kto",
    "anthropic",
    "gemini",
    "question_answer",
    "input_output",
    "text",
    "trl_stepwise",
    "tokenized",
    "turn",
]


@dataclass(frozen=True, slots=True)
class DataFormat:
    """One format of training data.

    Attributes:
        name: Its name in `datasets.read(…, to=NAME)`.
        label: What people call it.
        keys: The keys by which it is recognised, as a phrase.
        target: The row format that says the same, or None where rows cannot be converted.
        matches: Whether a row looks like it.
    """

    name: FormatName
    label: str
    keys: str
    target: Literal["prompt_completion", "chat", "preference", "reinforcement"] | None
    matches: Callable[[Mapping[str, Any]], bool]


QUESTION_COLUMNS: Final = (
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("user", "assistant"),
)
"""Names of the columns of a question and its answer."""

_CHAT_KEYS: Final = frozenset(
    {"messages", "tools", "parallel_tool_calls", "functions", "function_call"}
)
# Tuples, because what is looked up in them may be a list or an object.
_ANTHROPIC_PARTS: Final = (
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "image",
    "document",
)
_ASKING_ROLES: Final = ("user", "developer", "tool")
# What documents of a text corpus carry beside their text.
_CORPUS_KEYS: Final = frozenset(
    {"text", "id", "meta", "metadata", "source", "url", "timestamp", "title", "date", "lang"}
)


def _first(value: Any) -> Mapping[str, Any]:
    """Return the first object of an array, which may be held as text; {} where there is none."""
    items = decoded(value)
    if is_array(items) and items and is_object(items[0]):
        return items[0]
    return {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_label(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, str) and value.strip().casefold() in {"true", "false"}
    )


def _has_label(row: Mapping[str, Any]) -> bool:
    return any(_is_label(row.get(name)) for name in ("label", "kto_tag"))


def _has_pair(row: Mapping[str, Any]) -> bool:
    return "chosen" in row and "rejected" in row


def _is_gemini(row: Mapping[str, Any]) -> bool:
    return "parts" in _first(row.get("contents"))


def _is_sharegpt(row: Mapping[str, Any]) -> bool:
    turn = _first(row.get("conversations", row.get("conversation")))
    return "from" in turn or "role" in turn


def holds_conversation(row: Mapping[str, Any]) -> bool:
    """Return whether an object holds a conversation: then it is a row, not a table of columns."""
    if "messages" in row or "preferred_output" in row:
        return True
    return _is_sharegpt(row) or _is_gemini(row)


def _is_anthropic(row: Mapping[str, Any]) -> bool:
    messages = decoded(row.get("messages"))
    if not is_array(messages) or "input" in row:
        return False
    if row.get("system"):
        return True
    parts = (
        part
        for message in messages
        if is_object(message) and is_array(message.get("content"))
        for part in message["content"]
    )
    return any(is_object(part) and part.get("type") in _ANTHROPIC_PARTS for part in parts)


def _is_kto(row: Mapping[str, Any]) -> bool:
    if not _has_label(row):
        return False
    return ("prompt" in row and "completion" in row) or "messages" in row


def _is_preference_of_trl(row: Mapping[str, Any]) -> bool:
    return _has_pair(row) and "instruction" not in row and "conversations" not in row


def _is_trl_prompt_completion(row: Mapping[str, Any]) -> bool:
    return "role" in _first(row.get("completion")) and is_array(decoded(row.get("prompt")))


def _is_trl_prompt(row: Mapping[str, Any]) -> bool:
    return "role" in _first(row.get("prompt")) and not row.keys() & {"completion", "completions"}


def _is_alpaca(row: Mapping[str, Any]) -> bool:
    return "instruction" in row and ("output" in row or _has_pair(row))


def _is_stepwise(row: Mapping[str, Any]) -> bool:
    return "prompt" in row and is_array(row.get("completions"))


def _is_reinforcement(row: Mapping[str, Any]) -> bool:
    """Return whether the conversation ends with what the model is to answer.

    Chat rows may end so, too, by mistake; they are told apart by keys that no chat row has, or by
    the lack of any assistant message.
    """
    messages = decoded(row.get("messages"))
    if not is_array(messages) or not messages or not all(map(is_object, messages)):
        return False
    if messages[-1].get("role") not in _ASKING_ROLES:
        return False
    if not row.keys() <= _CHAT_KEYS:
        return True
    return all(message.get("role") != "assistant" for message in messages)


def question_columns(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the keys of a question and its answer as the row spells them, or None."""
    names = {name.strip().casefold(): name for name in row}
    for question, answer in QUESTION_COLUMNS:
        if question in names and answer in names:
            return names[question], names[answer]
    return None


def _is_prompt_completion(row: Mapping[str, Any]) -> bool:
    if not row.keys() & {"prompt", "completion"}:
        return False
    return "completion" in row or question_columns(row) is None


def _is_corpus(row: Mapping[str, Any]) -> bool:
    return _is_text(row.get("text")) and row.keys() <= _CORPUS_KEYS


_IN_ORDER: Final = (
    DataFormat(
        "preference",
        "OpenAI preference",
        "'input', 'preferred_output' and 'non_preferred_output'",
        "preference",
        lambda row: "preferred_output" in row or "non_preferred_output" in row,
    ),
    DataFormat("gemini", "Gemini", "'contents' of 'parts'", "chat", _is_gemini),
    DataFormat(
        "sharegpt",
        "ShareGPT preference",
        "'conversations', 'chosen' and 'rejected'",
        "preference",
        lambda row: _has_pair(row) and _is_sharegpt(row),
    ),
    DataFormat(
        "sharegpt", "ShareGPT", "'conversations' of 'from' and 'value'", "chat", _is_sharegpt
    ),
    DataFormat(
        "kto",
        "TRL unpaired preference (KTO)",
        "'prompt', 'completion' and a true or false 'label'",
        "chat",
        _is_kto,
    ),
    DataFormat(
        "trl_preference",
        "TRL preference",
        "'prompt', 'chosen' and 'rejected'",
        "preference",
        _is_preference_of_trl,
    ),
    DataFormat(
        "anthropic",
        "Anthropic",
        "'messages' and a top-level 'system', or content blocks",
        "chat",
        _is_anthropic,
    ),
    DataFormat(
        "reinforcement",
        "reinforcement",
        "'messages' that end before the answer",
        "reinforcement",
        _is_reinforcement,
    ),
    DataFormat("chat", "chat", "'messages'", "chat", lambda row: "messages" in row),
    DataFormat(
        "trl_prompt_completion",
        "TRL conversational prompt-completion",
        "messages under 'prompt' and 'completion'",
        "chat",
        _is_trl_prompt_completion,
    ),
    DataFormat(
        "trl_prompt", "TRL prompt-only", "messages under 'prompt'", "reinforcement", _is_trl_prompt
    ),
    DataFormat(
        "trl_stepwise",
        "TRL stepwise supervision",
        "'prompt', 'completions' and 'labels'",
        None,
        _is_stepwise,
    ),
    DataFormat(
        "prompt_completion",
        "prompt/completion",
        "'prompt' and 'completion'",
        "prompt_completion",
        _is_prompt_completion,
    ),
    DataFormat(
        "alpaca",
        "Alpaca preference",
        "'instruction', 'chosen' and 'rejected'",
        "preference",
        lambda row: _is_alpaca(row) and "output" not in row,
    ),
    DataFormat("alpaca", "Alpaca", "'instruction', 'input' and 'output'", "chat", _is_alpaca),
    DataFormat(
        "question_answer",
        "question and answer",
        "columns such as 'question' and 'answer'",
        "chat",
        lambda row: question_columns(row) is not None,
    ),
    DataFormat(
        "input_output",
        "input and output",
        "'input' and 'output'",
        "chat",
        lambda row: "input" in row and "output" in row,
    ),
    DataFormat("text", "text corpus", "'text'", "prompt_completion", _is_corpus),
    DataFormat("tokenized", "tokenized", "'input_ids'", None, lambda row: "input_ids" in row),
    DataFormat(
        "turn",
        "single turn",
        "a turn of a conversation, which belongs into a list under 'messages'",
        None,
        lambda row: {"role", "content"} <= row.keys() or {"from", "value"} <= row.keys(),
    ),
)

DATA_FORMATS: Final[Mapping[str, DataFormat]] = {one.name: one for one in _IN_ORDER}
"""The formats by name. ShareGPT and Alpaca rows may be preferences, too: see `recognise`."""


def recognise(row: Mapping[str, Any]) -> DataFormat | None:
    """Return the format of a row, or None where its keys are those of no known format."""
    return next((one for one in _IN_ORDER if one.matches(row)), None)


def recognise_rows(rows: Iterable[Mapping[str, Any]]) -> DataFormat | None:
    """Return the format of most rows, or None where no row has a known one."""
    counts = Counter(found for row in rows if (found := recognise(row)) is not None)
    return counts.most_common(1)[0][0] if counts else None


set_public_module(globals(), "tunesmith.datasets")
