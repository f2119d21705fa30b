"""From a request to token ids: text, ids as given, or a conversation through its template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .generation_errors import GenerationError

if TYPE_CHECKING:
    from pathlib import Path

    from .detokenizer import TokenBytes
    from .generation import ChatPrompt, GenerationRequest

__all__ = [
    "END_OF_TEXT",
    "Vocabulary",
    "check_context",
    "check_template",
    "prompt_tokens",
    "template_text",
    "text_tokens",
]

END_OF_TEXT = "<|endoftext|>"  # the API's default prompt: the beginning of a new document


class Vocabulary(Protocol):
    """What a prompt and an answer need to know of the base, wherever its weights are.

    Attributes:
        tokenizer: Has transformers' `encode`; for conversations also `apply_chat_template`.
        context: Most tokens of a prompt and its answer together.
        vocabulary: Number of token ids.
        end_tokens: Tokens that end an answer.
        start_token: What an empty prompt begins with.
    """

    path: Path
    tokenizer: Any
    token_bytes: TokenBytes
    context: int
    vocabulary: int
    end_tokens: frozenset[int]
    start_token: int

    @property
    def chat_template(self) -> str:
        """The template that writes conversations out; empty if there is none."""
        ...


def prompt_tokens(base: Vocabulary, request: GenerationRequest) -> list[list[int]]:
    """Return the token ids of each prompt of a request.

    Raises:
        GenerationError: A token id is unknown, or the base has no chat template that
            can write the conversation.
    """
    if request.chat is not None:
        text = template_text(base, request.chat)
        return [_encode(base, text, "messages", add_special_tokens=False)]
    return text_tokens(base, request.prompts)


def text_tokens(base: Vocabulary, prompts: list[str | list[int]]) -> list[list[int]]:
    """Return the token ids of each prompt, which is text or ids.

    Raises:
        GenerationError: A token id is unknown.
    """
    return [_tokens_of(base, prompt, place) for place, prompt in enumerate(prompts)]


def template_text(base: Vocabulary, chat: ChatPrompt) -> str:
    """Write a conversation out by the chat template of the base.

    The template runs in transformers' sandbox.
    """
    import jinja2  # noqa: PLC0415 - comes with transformers

    check_template(base, chat)
    try:
        text: str = base.tokenizer.apply_chat_template(
            chat.messages,
            tools=chat.tools,
            chat_template=base.chat_template,
            add_generation_prompt=True,
            tokenize=False,
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise GenerationError(
            f"The chat template of the base model {base.path.name} refuses the messages: {error}",
            param="messages",
            code="invalid_messages",
        ) from error
    return text


def check_template(base: Vocabulary, chat: ChatPrompt) -> None:
    """Raise GenerationError unless the base has a chat template that can write `chat`."""
    if not base.chat_template:
        raise GenerationError(
            f"The base model {base.path.name} has no chat template: ask /v1/completions instead.",
            param="model",
            code="no_chat_template",
        )
    if chat.tools and "tools" not in base.chat_template:
        raise GenerationError(
            f"The chat template of the base model {base.path.name} has no place for tools: "
            "leave `tools` out or take a base model that knows them.",
            param="tools",
            code="unsupported_parameter",
        )


def check_context(base: Vocabulary, prompt: list[int], max_tokens: int | None) -> int:
    """Return how many tokens may be generated after a prompt.

    Raises:
        GenerationError: Prompt and answer together do not fit the context.
    """
    room = base.context - len(prompt)
    wanted = 1 if max_tokens is None else max_tokens
    if wanted > room:
        asked = "at least 1 token" if max_tokens is None else f"{max_tokens} tokens (max_tokens)"
        raise GenerationError(
            f"This model's context holds {base.context} tokens, but the request needs "
            f"{len(prompt) + wanted}: {len(prompt)} tokens of prompt and {asked} of answer. "
            "Shorten the prompt or the answer.",
            param="messages" if max_tokens is None else "max_tokens",
            code="context_length_exceeded",
        )
    return room if max_tokens is None else max_tokens


def _tokens_of(base: Vocabulary, prompt: str | list[int], place: int) -> list[int]:
    if isinstance(prompt, str):
        if prompt in {"", END_OF_TEXT}:
            return [base.start_token]
        return _encode(base, prompt, "prompt", add_special_tokens=True)
    unknown = next((token for token in prompt if not 0 <= token < base.vocabulary), None)
    if unknown is not None:
        raise GenerationError(
            f"Prompt {place} holds the token id {unknown}; this model's ids go from 0 to "
            f"{base.vocabulary - 1}.",
            param="prompt",
            code="invalid_token",
        )
    return list(prompt) or [base.start_token]


def _encode(base: Vocabulary, text: str, param: str, *, add_special_tokens: bool) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GenerationError(
            f"{param} holds half of a surrogate pair, which is no character "
            f"(U+{ord(text[error.start]):04X}).",
            param=param,
            code="invalid_text",
        ) from None
    tokens: list[int] = base.tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return tokens
