"""Rules of chat rows, for supervised and for reinforcement fine-tuning.

Source: the request-input schemas of the OpenAI OpenAPI description (FineTuneChatRequestInput,
FineTuneReinforcementRequestInput and the chat messages that they refer to) and what the
fine-tuning guide says in words: at least one assistant message, content unless there is a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.json_types import is_array, is_object

from . import conversation, messages, tools
from .problem import Problem, describe, unknown_fields

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["FIELDS", "are_valid", "is_plain", "problems", "reinforcement_problems"]

FIELDS: Final = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})

_SUPERVISED_ROLES: Final = frozenset({"system", "user", "assistant", "tool", "function"})
_REINFORCEMENT_ROLES: Final = frozenset({"developer", "system", "user", "assistant", "tool"})
_PLAIN_ROLES: Final = frozenset({"system", "user", "assistant"})


def problems(value: dict[str, Any]) -> Iterator[Problem]:
    """Yield every problem of a chat row."""
    if is_plain(value):
        return
    found = yield from _message_list(value, "$", _SUPERVISED_ROLES)
    yield from tools.problems(value, "$")
    yield from unknown_fields(value, FIELDS, "$")
    if found is not None:
        yield from conversation.supervised_problems(found, value, "$.messages")


def is_plain(value: dict[str, Any]) -> bool:
    """Return whether the row is a plain conversation without any problem.

    True for most rows in practice: only `messages`, each with a role and a text, the assistant
    last. False decides nothing: the full rules have to be applied then.
    """
    if len(value) != 1:
        return False
    found: Any = value.get("messages")
    if not is_array(found) or not found:
        return False
    role: object = None
    for message in found:
        if not is_object(message) or len(message) != 2:  # noqa: PLR2004 - role and content
            return False
        role = message.get("role")
        content = message.get("content")
        if type(role) is not str or role not in _PLAIN_ROLES:
            return False
        if type(content) is not str or not content or content.isspace():
            return False
    return role == "assistant"


def are_valid(conversations: list[Any]) -> bool:
    """Return whether plain conversations have no problem at all; see `Batch.conversations`."""
    if not all(conversation.messages for conversation in conversations):
        return False
    if {conversation.messages[-1].role for conversation in conversations} != {"assistant"}:
        return False
    texts = [message.content for row in conversations for message in row.messages]
    return all(texts) and not any(map(str.isspace, texts))


def reinforcement_problems(value: dict[str, Any]) -> Iterator[Problem]:
    """Yield every problem of a reinforcement row; other top-level keys belong to the grader."""
    found = yield from _message_list(value, "$", _REINFORCEMENT_ROLES)
    yield from tools.problems(value, "$")
    if value.keys() <= FIELDS:
        yield Problem(
            "grader-fields-missing",
            "",
            "no message is from the assistant, and no other field says what the answer should be",
        )
    if found is not None:
        yield from conversation.tool_call_problems(found, value, "$.messages")
        if found and found[-1].get("role") == "assistant":
            yield Problem(
                "last-message-assistant",
                f"$.messages[{len(found) - 1}].role",
                "the last message is from the assistant; the model is asked to write that one",
            )


def _message_list(
    value: dict[str, Any], path: str, roles: frozenset[str]
) -> Generator[Problem, None, list[dict[str, Any]] | None]:
    """Yield the problems of `messages`; return the messages if each is an object with a role."""
    if "messages" not in value:
        yield Problem("missing-field", f"{path}.messages", "no field 'messages'")
        return None
    found = value["messages"]
    if not is_array(found):
        yield Problem(
            "field-type",
            f"{path}.messages",
            f"'messages' must be an array, not {describe(found)}",
        )
        return None
    if not found:
        yield Problem("messages-empty", f"{path}.messages", "'messages' is empty")
        return None
    usable = True
    for position, message in enumerate(found):
        message_path = f"{path}.messages[{position}]"
        if not is_object(message):
            usable = False
            yield Problem(
                "field-type", message_path, f"a message must be an object, not {describe(message)}"
            )
            continue
        for problem in messages.problems(message, message_path, roles):
            usable = usable and problem.id not in {"role-missing", "role-unknown", "field-type"}
            yield problem
    return found if usable else None
