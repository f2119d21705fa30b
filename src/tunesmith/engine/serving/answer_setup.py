"""From a model's vocabulary and a request to how the answer is read: its syntax, its marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.answer_syntax import MARKS, AnswerSyntax, find_syntax

from .answer_parser import AnswerParser
from .chat_answer import ChatAnswer

if TYPE_CHECKING:
    from .generation import ChatPrompt, GenerationRequest
    from .vocabulary import Vocabulary

__all__ = ["find_mark_tokens", "new_answer", "opens_thinking", "syntax_of"]

_TAIL = 32  # tokens at the end of a prompt, in which a template may open or close the thoughts


def syntax_of(vocabulary: Vocabulary, chat: ChatPrompt) -> AnswerSyntax:
    """Return the syntax of the answers to a conversation."""
    return find_syntax(
        vocabulary.chat_template, thinking=chat.thinking_syntax, calls=chat.call_syntax
    )


def opens_thinking(vocabulary: Vocabulary, syntax: AnswerSyntax, prompt: list[int]) -> bool:
    """Return whether a prompt ends with the mark that opens the thoughts."""
    return syntax.thinking is not None and _ends_with(vocabulary, prompt, syntax.thinking.begin)


def closes_thinking(vocabulary: Vocabulary, syntax: AnswerSyntax, prompt: list[int]) -> bool:
    """Return whether a prompt ends with the mark that closes the thoughts: there are none."""
    return syntax.thinking is not None and _ends_with(vocabulary, prompt, syntax.thinking.end)


def new_answer(
    vocabulary: Vocabulary, request: GenerationRequest, prompt: list[int]
) -> ChatAnswer | None:
    """Return an answer to a conversation, nothing of which has come; None for a completion."""
    chat = request.chat
    if chat is None:
        return None
    syntax = syntax_of(vocabulary, chat)
    functions: dict[str, dict[str, Any]] = {
        tool["function"]["name"]: tool["function"].get("parameters") or {}
        for tool in chat.tools or ()
    }
    parser = AnswerParser(
        syntax,
        functions,
        parallel=chat.parallel_calls,
        thinking=opens_thinking(vocabulary, syntax, prompt),
    )
    return ChatAnswer(parser, tuple(request.stop))


def find_mark_tokens(vocabulary: Vocabulary, request: GenerationRequest) -> frozenset[int]:
    """Return the special tokens that mark parts of the answers to a request."""
    chat = request.chat
    if chat is None:
        return frozenset()
    syntax = syntax_of(vocabulary, chat)
    thinking = syntax.thinking
    marks = [] if thinking is None else [thinking.begin, thinking.end]
    if thinking is not None:
        marks += [thinking.answer_begin, thinking.answer_end]
    if chat.tools or syntax.calls == "harmony":
        marks.append(MARKS)
    return frozenset(
        number
        for number, token in vocabulary.tokenizer.added_tokens_decoder.items()
        if any(token.content in mark for mark in marks)
    )


def _ends_with(vocabulary: Vocabulary, prompt: list[int], mark: str) -> bool:
    token_bytes = vocabulary.token_bytes
    tail = b"".join(token_bytes[token] for token in prompt[-_TAIL:])
    return tail.decode("utf-8", "replace").rstrip().endswith(mark.rstrip())
