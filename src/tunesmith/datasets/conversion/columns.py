"""Rows whose texts stand in columns: Alpaca, question and answer, input and output, a corpus."""

from __future__ import annotations

from typing import Any, Final

from tunesmith.datasets.json_text import decoded
from tunesmith.datasets.json_types import is_array
from tunesmith.datasets.recognition import question_columns

from .example import (
    Answers,
    Example,
    Message,
    NotConvertibleError,
    Written,
    as_conversation,
    as_pair,
    divide,
    note,
    plain_text,
    rest_of,
    split_system,
    tools_of,
)

__all__ = [
    "read_alpaca",
    "read_input_output",
    "read_question_answer",
    "read_text",
    "write_alpaca",
    "write_input_output",
    "write_question_answer",
    "write_text",
]

_ALPACA: Final = ("instruction", "input", "output", "system", "history", "tools")
_RANKING: Final = ("chosen", "rejected", "label", "kto_tag")
_CONTEXTS: Final = ("context", "input")
_TURN: Final = 2


def _text(row: dict[str, Any], name: str) -> str:
    """Return a field as text; numbers are written as text, what is missing is empty."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise NotConvertibleError(f"{name!r} is not a text", f"$.{name}")


def _answer(row: dict[str, Any], name: str) -> list[Message]:
    text = _text(row, name)
    if not text.strip():
        raise NotConvertibleError(f"{name!r} is empty: there is no answer", f"$.{name}")
    return [{"role": "assistant", "content": text}]


def _system(row: dict[str, Any], name: str = "system") -> list[Message]:
    text = _text(row, name)
    return [{"role": "system", "content": text}] if text else []


def _joined(*texts: str) -> list[Message]:
    """Return a user message of the texts that are not empty, one under the other."""
    text = "\n".join(filter(None, texts))
    return [{"role": "user", "content": text}] if text else []


# Alpaca


def read_alpaca(row: dict[str, Any]) -> Example:
    """Read an Alpaca row: earlier turns in `history`, `input` under the instruction."""
    messages = [
        *_system(row),
        *_history(row.get("history")),
        *_joined(_text(row, "instruction"), _text(row, "input")),
    ]
    tools = tools_of(row.get("tools"))
    if "chosen" in row and "output" not in row:
        answers = Answers(_answer(row, "chosen"), _answer(row, "rejected"))
        rest = rest_of(row, (*_ALPACA, *_RANKING[:2]))
        return Example("preference", messages, tools, answers, rest=rest)
    messages += _answer(row, "output")
    label = next((row[name] for name in _RANKING[2:] if isinstance(row.get(name), bool)), None)
    if label is None:
        return Example("conversation", messages, tools, rest=rest_of(row, _ALPACA))
    rest = rest_of(row, (*_ALPACA, *_RANKING[2:]))
    return Example("labelled", messages, tools, label=label, rest=rest)


def _history(value: Any) -> list[Message]:
    turns = decoded(value)
    if not turns:
        return []
    messages: list[Message] = []
    for position, turn in enumerate(turns if is_array(turns) else [turns]):
        if not is_array(turn) or len(turn) != _TURN or not all(isinstance(it, str) for it in turn):
            raise NotConvertibleError(
                "it is not a question and its answer", f"$.history[{position}]"
            )
        messages.append({"role": "user", "content": turn[0]})
        messages.append({"role": "assistant", "content": turn[1]})
    return messages


def write_alpaca(example: Example) -> Written:
    """Write an Alpaca row; a preference gets `chosen` and `rejected`, a label its `label`."""
    lost: list[str] = []
    if example.answers is not None:
        prompt, outputs = example.messages, list(example.answers)
    else:
        messages = example.messages if example.kind == "labelled" else as_conversation(example).rows
        prompt, answer = divide(messages)
        outputs = [answer]
    system, turns = split_system(prompt, lost)
    history = _pairs_of(turns[:-1], lost)
    question = _only_text(turns[-1], "user", lost) if turns else ""
    texts = [_only_text(answer[0], "assistant", lost) for answer in outputs]
    if any(len(answer) != 1 for answer in outputs):
        raise NotConvertibleError("an answer is more than one message")
    names = ["chosen", "rejected"] if len(outputs) > 1 else ["output"]
    row: dict[str, Any] = {
        "instruction": question,
        "input": "",
        **dict(zip(names, texts, strict=True)),
    }
    if example.label is not None:
        row["label"] = example.label
    if system:
        row["system"] = system
    if history:
        row["history"] = history
    if example.tools:
        note(lost, "'tools'")
    return Written([row], [*lost, *(f"'{name}'" for name in example.fields)])


def _pairs_of(turns: list[Message], lost: list[str]) -> list[list[str]]:
    if [turn["role"] for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise NotConvertibleError("its turns are not question and answer by turns", "$.messages")
    texts = [_only_text(turn, turn["role"], lost) for turn in turns]
    return [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]


def _only_text(message: Message, role: str, lost: list[str]) -> str:
    if message["role"] != role:
        raise NotConvertibleError(f"it has a {message['role']} message there", "$.messages")
    if message.get("tool_calls"):
        raise NotConvertibleError("it calls tools", "$.messages")
    return plain_text(message, "$.messages", lost)


# Question and answer


def read_question_answer(row: dict[str, Any]) -> Example:
    """Read a row of a question and an answer; a context stands above the question."""
    columns = question_columns(row)
    if columns is None:
        raise NotConvertibleError("it has no columns of a question and an answer")
    question, answer = columns
    names = {name.strip().casefold(): name for name in row}
    context = next((names[name] for name in _CONTEXTS if name in names), "")
    system = names.get("system", names.get("system_prompt", ""))
    # An instruction comes before what it is about, a question after it.
    first, second = (
        (question, context) if question.lower() == "instruction" else (context, question)
    )
    messages = [
        *_system(row, system),
        *_joined(_text(row, first), _text(row, second)),
        *_answer(row, answer),
    ]
    return Example("conversation", messages, rest=rest_of(row, (*columns, context, system)))


def write_question_answer(example: Example) -> Written:
    """Write a row with `question` and `answer`, and `system` where there is such a message."""
    system, question, answer, lost = as_pair(example)
    row = {"question": question, "answer": answer}
    return Written([{"system": system, **row} if system else row], lost)


def read_input_output(row: dict[str, Any]) -> Example:
    """Read a row with `input` and `output`, texts or messages."""
    messages = [*_system(row), *_joined(_text(row, "input")), *_answer(row, "output")]
    return Example("conversation", messages, rest=rest_of(row, ("input", "output", "system")))


def write_input_output(example: Example) -> Written:
    """Write a row with `input` and `output`, and `system` where there is such a message."""
    system, question, answer, lost = as_pair(example)
    row = {"input": question, "output": answer}
    return Written([{"system": system, **row} if system else row], lost)


# A corpus


def read_text(row: dict[str, Any]) -> Example:
    """Read a document of a corpus: a text without a question."""
    return Example("conversation", _answer(row, "text"), rest=rest_of(row, ("text",)))


def write_text(example: Example) -> Written:
    """Write a document of a corpus."""
    system, question, answer, lost = as_pair(example)
    if system or question:
        raise NotConvertibleError("it asks a question, and a corpus has only texts")
    return Written([{"text": answer}], lost)
