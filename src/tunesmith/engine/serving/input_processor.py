"""From a request to token ids: text, ids as given, or a conversation through its chat template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunesmith.engine.models.chat_template import ChatTemplate, TemplateError

from .generation_errors import GenerationError
from .vocabulary import END_OF_TEXT

if TYPE_CHECKING:
    from .generation import ChatPrompt, GenerationRequest
    from .vocabulary import Vocabulary

__all__ = [
    "chat_template",
    "check_chat_template",
    "find_stop_tokens",
    "max_new_tokens",
    "render_chat",
    "template_variables",
    "tokenize_prompts",
    "tokenize_texts",
]


_THINKING_SWITCH = re.compile(r"\b(?:if|and|or|not)\s+\(?thinking\b")


def tokenize_prompts(vocabulary: Vocabulary, request: GenerationRequest) -> list[list[int]]:
    """Return the token ids of each prompt of a request.

    Raises:
        GenerationError: A token id is unknown, or the model has no chat template that can
            render the conversation.
    """
    if request.chat is not None:
        text = render_chat(vocabulary, request.chat)
        return [_encode(vocabulary, text, "messages", add_special_tokens=False)]
    return tokenize_texts(vocabulary, request.prompts)


def tokenize_texts(vocabulary: Vocabulary, prompts: list[str | list[int]]) -> list[list[int]]:
    """Return the token ids of each prompt, which is text or ids.

    Raises:
        GenerationError: A token id is unknown.
    """
    return [_token_ids(vocabulary, prompt, index) for index, prompt in enumerate(prompts)]


def render_chat(vocabulary: Vocabulary, chat: ChatPrompt) -> str:
    """Return a conversation as text, rendered by the chat template of the model.

    The template runs in transformers' sandbox.

    Raises:
        GenerationError: There is no template, or it rejects the messages.
    """
    check_chat_template(vocabulary)
    try:
        return chat_template(vocabulary).prompt(
            chat.messages, chat.tools, **template_variables(vocabulary, chat)
        )
    except TemplateError as error:
        raise GenerationError(
            f"The chat template of the base model {vocabulary.path.name} rejects the messages: "
            f"{error}",
            param="messages",
            code="invalid_messages",
        ) from error


def chat_template(vocabulary: Vocabulary) -> ChatTemplate:
    """Return the chat template of a model, with which its training rendered chats, too."""
    return ChatTemplate.of(
        vocabulary.tokenizer,
        vocabulary.special_tokens,
        vocabulary.chat_template,
        vocabulary.eos_token_ids,
    )


def template_variables(vocabulary: Vocabulary, chat: ChatPrompt) -> dict[str, Any]:
    """Return the variables of a request for the chat template: how much to think, most likely.

    Templates switch thinking with `enable_thinking` or `thinking`, or set its degree with
    `reasoning_effort`; what a request names itself takes precedence.

    Raises:
        GenerationError: The template knows no degree of thinking, or not this one.
    """
    effort, template = chat.reasoning_effort, vocabulary.chat_template
    if effort is None:
        return dict(chat.template_options)
    has_degrees = "reasoning_effort" in template
    has_switch = "enable_thinking" in template or _THINKING_SWITCH.search(template) is not None
    if not (has_degrees or has_switch) or (effort == "none" and not has_switch):
        reason = "always thinks" if has_degrees else "has no such setting"
        raise GenerationError(
            f"reasoning_effort {effort!r} is not supported: the chat template of the base model "
            f"{vocabulary.path.name} {reason}. Leave it out"
            + (", or set it to 'low'." if has_degrees else "."),
            param="reasoning_effort",
            code="unsupported_parameter",
        )
    degree = {"minimal": "low", "xhigh": "high"}.get(effort, effort)
    switches = {"enable_thinking": effort != "none", "thinking": effort != "none"}
    return {"reasoning_effort": degree, **switches, **chat.template_options}


def check_chat_template(vocabulary: Vocabulary) -> None:
    """Check that the model has a chat template.

    Raises:
        GenerationError: It has none.
    """
    name = vocabulary.path.name
    if not vocabulary.chat_template:
        raise GenerationError(
            f"The base model {name} has no chat template: use /v1/completions instead.",
            param="model",
            code="no_chat_template",
        )


def find_stop_tokens(vocabulary: Vocabulary, request: GenerationRequest) -> frozenset[int]:
    """Return the tokens that end the answers of a request, besides the model's own end tokens.

    These are the special tokens among its stop sequences, which are no text and so are never
    found in it, and in a conversation the tokens that end a turn in the chat template: training
    teaches the model to end its answers with them.
    """
    added = {
        token.content: number for number, token in vocabulary.tokenizer.added_tokens_decoder.items()
    }
    ending = {added[text] for text in request.stop if text in added}
    if request.chat is not None and vocabulary.chat_template:
        ends = chat_template(vocabulary).turn_ends()
        ending |= {added[text] for text in ends if text in added}
    return frozenset(ending)


def max_new_tokens(vocabulary: Vocabulary, prompt: list[int], max_tokens: int | None) -> int:
    """Return how many tokens may be generated after a prompt.

    Args:
        vocabulary: That of the model.
        prompt: The prompt's token ids.
        max_tokens: The limit in the request; None for the rest of the context.

    Raises:
        GenerationError: Prompt and answer together do not fit the context.
    """
    available = vocabulary.context_length - len(prompt)
    needed = 1 if max_tokens is None else max_tokens
    if needed > available:
        answer = "at least 1 token" if max_tokens is None else f"{max_tokens} tokens (max_tokens)"
        raise GenerationError(
            f"This model's context length is {vocabulary.context_length} tokens, but the request "
            f"needs {len(prompt) + needed}: {len(prompt)} tokens of prompt and {answer} of answer. "
            "Shorten the prompt or the answer.",
            param="messages" if max_tokens is None else "max_tokens",
            code="context_length_exceeded",
        )
    return available if max_tokens is None else max_tokens


def _token_ids(vocabulary: Vocabulary, prompt: str | list[int], index: int) -> list[int]:
    if isinstance(prompt, str):
        if prompt in {"", END_OF_TEXT}:
            return [vocabulary.start_token_id]
        return _encode(vocabulary, prompt, "prompt", add_special_tokens=True)
    unknown = next((token for token in prompt if not 0 <= token < vocabulary.vocab_size), None)
    if unknown is not None:
        raise GenerationError(
            f"Prompt {index} contains the token id {unknown}; this model's ids go from 0 to "
            f"{vocabulary.vocab_size - 1}.",
            param="prompt",
            code="invalid_token",
        )
    return list(prompt) or [vocabulary.start_token_id]


def _check_length(vocabulary: Vocabulary, data: bytes, param: str) -> None:
    """Raise GenerationError for a text that cannot fit the context, whatever its tokens are.

    To count them takes seconds for a few megabytes.
    """
    longest = vocabulary.token_bytes.longest
    if len(data) <= vocabulary.context_length * longest:
        return
    raise GenerationError(
        f"This model's context length is {vocabulary.context_length} tokens of at most {longest} "
        f"bytes each, but {param} has {len(data)} bytes. Shorten it.",
        param=param,
        code="context_length_exceeded",
    )


def _encode(
    vocabulary: Vocabulary, text: str, param: str, *, add_special_tokens: bool
) -> list[int]:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise GenerationError(
            f"{param} contains half of a surrogate pair, which is not a character "
            f"(U+{ord(text[error.start]):04X}).",
            param=param,
            code="invalid_text",
        ) from None
    _check_length(vocabulary, data, param)
    tokens: list[int] = vocabulary.tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return tokens
