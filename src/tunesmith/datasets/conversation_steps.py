"""The steps of a plan for rows that hold messages: chat, preference and reinforcement rows.

First the shape of values is mended, then the calls, then the turns; what still breaks a rule of
its format is left out last. The transforms are in `chat_fixes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import chat_fixes
from .fixes import Step, drop_duplicates, stateless
from .row_formats import chat, problems
from .rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fixes import Value
    from .rows import RowFormat

__all__ = ["conversation_steps"]

_MAX_REASONS: Final = 2


def conversation_steps(row_format: RowFormat) -> Iterator[Step]:
    """Yield the steps for rows of a format that holds messages."""
    for step in _mending_steps(row_format):
        if row_format == "chat":
            step.exempt = chat.is_plain
        yield step
    yield Step("drop-duplicates", "Drop rows that repeat an earlier one", drop_duplicates)


def _mending_steps(row_format: RowFormat) -> Iterator[Step]:
    yield Step(
        "unwrap-texts",
        "Read messages, tools and calls that are held as text",
        stateless(chat_fixes.unwrap_texts),
        "They have to be arrays; here they are JSON inside a text.",
    )
    yield Step(
        "rename-message-keys",
        "Rename 'from' and 'value' of messages to 'role' and 'content', 'value' of texts to 'text'",
        stateless(chat_fixes.rename_message_keys),
        "These are the names of ShareGPT and of LLaMA-Factory.",
    )
    yield Step(
        "map-roles",
        "Write the standard names of roles",
        stateless(chat_fixes.map_roles),
        "Roles are system, user, assistant and tool; 'human', 'gpt' and others stand for these.",
    )
    if row_format == "chat":
        yield Step(
            "developer-to-system",
            "Write 'system' for the role 'developer'",
            stateless(chat_fixes.developer_to_system),
            "Supervised fine-tuning does not know the role 'developer'.",
        )
    yield Step(
        "drop-null-keys",
        "Leave out keys that are null",
        stateless(chat_fixes.drop_null_keys),
        "A key that is null says nothing, and services refuse it.",
    )
    yield Step(
        "function-call-to-tool-calls",
        "Write 'function_call' and 'functions' as 'tool_calls' and 'tools'",
        stateless(chat_fixes.function_calls_to_tool_calls),
        "They are deprecated; newer models are trained on tool calls.",
    )
    yield Step(
        "complete-tool-calls",
        "Write the missing ids and types of tool calls and tools",
        stateless(chat_fixes.complete_tool_calls),
        "A call has an id, a type and a function; a tool message names the call that it answers.",
    )
    yield Step(
        "encode-arguments",
        "Write the arguments of calls as JSON text",
        stateless(chat_fixes.encode_arguments),
        "'arguments' is a text that holds a JSON object.",
    )
    yield Step(
        "unwrap-arguments",
        "Decode arguments that were encoded twice",
        stateless(chat_fixes.unwrap_arguments),
        "The model would learn to write a quoted text instead of an object.",
    )
    if row_format == "chat":
        yield Step(
            "cut-unanswered-turns",
            "Cut the turns after the last answer",
            stateless(chat_fixes.cut_unanswered_turns),
            "The last message must be the assistant's; nothing is learned from what follows it.",
        )
        yield Step(
            "drop-unanswered-rows",
            "Drop rows without an answer",
            stateless(chat_fixes.drop_unanswered),
            "No message is from the assistant: there is nothing to learn.",
        )
    yield _drop_invalid(row_format)


def _drop_invalid(row_format: RowFormat) -> Step:
    def errors(value: Value) -> list[str]:
        found = problems(value, row_format)
        return [
            f"{problem.path or 'row'}: {problem.message}"
            for problem in found
            if RULES[problem.id].severity == "error"
        ]

    def transform(value: Value) -> Value | None:
        return None if errors(value) else value

    return Step(
        "drop-invalid-rows",
        "Leave out rows that still break a rule",
        stateless(transform),
        "A job refuses a file with such rows, and no fix here mends them.",
        explain=lambda value: "; ".join(errors(value)[:_MAX_REASONS]),
    )
