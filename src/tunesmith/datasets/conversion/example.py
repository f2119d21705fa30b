"""`Example`: what a training row says, whatever its format; every conversion goes through it.

Conversations are messages as OpenAI writes them. Formats read rows into examples and write rows
from them; here are the parts that they share, and the error for what a format cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from tunesmith.datasets.chat_fixes import standard_messages
from tunesmith.datasets.json_text import decoded
from tunesmith.datasets.json_types import is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Answers",
    "Example",
    "Kind",
    "Message",
    "NotConvertibleError",
    "Written",
    "as_conversation",
    "as_pair",
    "as_prompt",
    "divide",
    "labelled_answers",
    "messages_of",
    "note",
    "note_fields",
    "plain_text",
    "rest_of",
    "split_system",
    "tools_of",
]

Message: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["conversation", "preference", "labelled", "prompt"]

# A tuple, because what is looked up in it may be a list or an object.
_PLAIN_ROLES: Final = ("system", "user", "assistant")
_PLAIN_FIELDS: Final = frozenset({"role", "content", "tool_calls", "tool_call_id"})


class NotConvertibleError(Exception):
    """What a row says cannot be said in the other format.

    Attributes:
        path: JSON path of what stands in the way; "" for the whole row.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class Answers(NamedTuple):
    """The answers of a preference: the one that is preferred, and the other."""

    chosen: list[Message]
    rejected: list[Message]


@dataclass(slots=True)
class Example:
    """One training example.

    Attributes:
        kind: "conversation" with the answer at its end, "preference" with two answers,
            "labelled" with one that is good or bad, or "prompt" without any.
        messages: The conversation; without its answers where these are a preference.
        tools: The declared tools, or None.
        answers: Of a preference, its answers.
        label: Of a labelled conversation, whether its answer is good.
        fields: Other settings that chat rows have, such as `parallel_tool_calls`.
        rest: What else the row holds, by key.
        lost: What reading has left out, as phrases.
    """

    kind: Kind
    messages: list[Message]
    tools: list[Any] | None = None
    answers: Answers | None = None
    label: bool | None = None
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    rest: dict[str, Any] = field(default_factory=dict[str, Any])
    lost: list[str] = field(default_factory=list[str])


class Written(NamedTuple):
    """The rows that say the same as an example, and what they leave out, as phrases."""

    rows: list[dict[str, Any]]
    lost: list[str]


def messages_of(value: Any, path: str, tools: Any = None) -> list[Message]:
    """Return a list of messages in OpenAI's standard form.

    Raises:
        NotConvertibleError: It is no list of messages.
    """
    found = decoded(value)
    if not is_array(found):
        raise NotConvertibleError("it is not a list of messages", path)
    if all(map(_is_plain, found)):
        return found
    row = standard_messages({"messages": found, **({"tools": tools} if tools else {})})
    for position, message in enumerate(row["messages"]):
        if not is_object(message) or not isinstance(message.get("role"), str):
            raise NotConvertibleError("it is not a message with a role", f"{path}[{position}]")
    return list(row["messages"])


def _is_plain(message: Any) -> bool:
    """Return whether a message is a text of a standard role and nothing else."""
    if not is_object(message) or len(message) != 2:  # noqa: PLR2004 - role and content
        return False
    return message.get("role") in _PLAIN_ROLES and isinstance(message.get("content"), str)


def tools_of(value: Any, path: str = "$.tools") -> list[Any] | None:
    """Return declared tools in OpenAI's standard form; None where there are none.

    Raises:
        NotConvertibleError: It is no list of tools.
    """
    found = decoded(value)
    if found is None or found in ("", []):
        return None
    if is_object(found):
        found = [found]
    if not is_array(found):
        raise NotConvertibleError("it is not a list of tools", path)
    row = standard_messages({"messages": [], "tools": found})
    return list(row["tools"])


def rest_of(row: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a row that are not known and not empty."""
    names = set(known)
    empty: tuple[Any, ...] = (None, "", [], {})
    return {
        name: value
        for name, value in row.items()
        if name not in names and not any(value is one or value == one for one in empty)
    }


def as_conversation(example: Example) -> Written:
    """Return the messages of an example with its good answer, as the `rows` of the result.

    Raises:
        NotConvertibleError: It has no answer, or only a bad one.
    """
    if example.kind == "prompt":
        raise NotConvertibleError("it has no answer to learn from")
    if example.kind == "labelled":
        if not example.label:
            raise NotConvertibleError("its answer is labelled as bad: it is not to be imitated")
        return Written(example.messages, ["the label of the answer"])
    if example.answers is not None:
        chosen = [*example.messages, *example.answers.chosen]
        return Written(chosen, ["the rejected answer"])
    return Written(example.messages, [])


def labelled_answers(example: Example) -> list[tuple[list[Message], list[Message], bool]]:
    """Return prompt, answer and label; of a preference, both answers.

    Raises:
        NotConvertibleError: Nothing says whether the answer is good.
    """
    if example.answers is not None:
        answers = example.answers
        return [
            (example.messages, answers.chosen, True),
            (example.messages, answers.rejected, False),
        ]
    if example.kind == "labelled":
        prompt, answer = divide(example.messages)
        return [(prompt, answer, bool(example.label))]
    raise NotConvertibleError("nothing says whether its answer is good or bad")


def as_prompt(example: Example) -> Written:
    """Return the messages before the answer, as the `rows` of the result.

    Raises:
        NotConvertibleError: There are none.
    """
    messages, lost = example.messages, list[str]()
    if example.kind == "preference":
        lost.append("both answers")
    elif example.kind != "prompt":
        messages, _ = divide(messages)
        lost.append("the answer")
    if not messages:
        raise NotConvertibleError("it asks nothing")
    return Written(messages, lost)


def divide(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Return a conversation without its last answer, and the answer.

    Raises:
        NotConvertibleError: It does not end with an assistant message.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise NotConvertibleError("its conversation does not end with an answer")
    return messages[:-1], messages[-1:]


def split_system(messages: list[Message], lost: list[str]) -> tuple[str, list[Message]]:
    """Return the text of the system message at the start, and the messages after it."""
    if messages and messages[0]["role"] in {"system", "developer"}:
        return plain_text(messages[0], "$.messages[0]", lost), messages[1:]
    return "", messages


def plain_text(message: Message, path: str, lost: list[str]) -> str:
    """Return the content of a message as one text; note what else the message holds.

    Raises:
        NotConvertibleError: The content is not only text.
    """
    for name, value in message.items():
        if name not in _PLAIN_FIELDS and value is not None and (name, value) != ("weight", 1):
            note(lost, f"'{name}' of messages")
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for position, part in enumerate(content if is_array(content) else [content]):
        text = part.get("text") if is_object(part) and part.get("type", "text") == "text" else None
        if not isinstance(text, str):
            kind = part.get("type") if is_object(part) else type(part).__name__
            raise NotConvertibleError(
                f"it holds content of type {kind!r}, which that format does not have",
                f"{path}.content[{position}]",
            )
        texts.append(text)
    if len(texts) > 1:
        note(lost, "the borders between parts of text")
    return "\n".join(texts)


def note_fields(value: Mapping[str, Any], known: Iterable[str], of: str, lost: list[str]) -> None:
    """Note the fields of a part of a row that are not known and not empty."""
    for name in rest_of(value, known):
        note(lost, f"'{name}' of {of}")


def note(lost: list[str], phrase: str) -> None:
    """Add a phrase once."""
    if phrase not in lost:
        lost.append(phrase)


def as_pair(example: Example) -> tuple[str, str, str, list[str]]:
    """Return system text, question and answer of a conversation of one turn, and what is lost.

    Raises:
        NotConvertibleError: It has more turns, or calls of tools.
    """
    messages, lost = as_conversation(example)
    system, turns = split_system(messages, lost)
    if [turn["role"] for turn in turns] not in (["user", "assistant"], ["assistant"]):
        raise NotConvertibleError("it is more than one question and one answer", "$.messages")
    if turns[-1].get("tool_calls"):
        raise NotConvertibleError("it calls tools", "$.messages")
    texts = [plain_text(turn, "$.messages", lost) for turn in turns]
    if example.tools:
        note(lost, "'tools'")
    lost += [f"'{name}'" for name in example.fields]
    return system, texts[0] if len(texts) > 1 else "", texts[-1], lost
