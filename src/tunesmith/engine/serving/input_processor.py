"""From a request to token ids: text, ids as given, or a conversation through its chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.engine.domain.tool_messages import knows_tools, with_tools_as_text

from .generation_errors import GenerationError
from .vocabulary import END_OF_TEXT

if TYPE_CHECKING:
    from .generation import ChatPrompt, GenerationRequest
    from .vocabulary import Vocabulary

__all__ = [
    "check_chat_template",
    "find_stop_tokens",
    "for_template",
    "max_new_tokens",
    "render_chat",
    "tokenize_prompts",
    "tokenize_texts",
]


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
    import jinja2  # noqa: PLC0415 - comes with transformers

    check_chat_template(vocabulary)
    chat = for_template(vocabulary, chat)
    try:
        text: str = vocabulary.tokenizer.apply_chat_template(
            chat.messages,
            tools=chat.tools,
            chat_template=vocabulary.chat_template,
            add_generation_prompt=True,
            tokenize=False,
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise GenerationError(
            f"The chat template of the base model {vocabulary.path.name} rejects the messages: "
            f"{error}",
            param="messages",
            code="invalid_messages",
        ) from error
    return text


def for_template(vocabulary: Vocabulary, chat: ChatPrompt) -> ChatPrompt:
    """Return a conversation as the model's template takes it: one without tools gets text."""
    if knows_tools(vocabulary.chat_template):
        return chat
    messages = with_tools_as_text(chat.messages, chat.tools)
    return chat.model_copy(update={"messages": messages, "tools": None})


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
    found in it, and in a conversation the token that ends a turn in the chat template: training
    teaches the model to end its answers with it.
    """
    added = {
        token.content: number for number, token in vocabulary.tokenizer.added_tokens_decoder.items()
    }
    ending = {added[text] for text in request.stop if text in added}
    if request.chat is not None:
        ending |= _turn_end(vocabulary, set(added.values()))
    return frozenset(ending)


def _turn_end(vocabulary: Vocabulary, special: set[int]) -> set[int]:
    """Return the special token behind an assistant's message in the chat template, if any."""
    answer = "answer"
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    try:
        text: str = vocabulary.tokenizer.apply_chat_template(
            messages, chat_template=vocabulary.chat_template, tokenize=False
        )
    except Exception:  # noqa: BLE001 - templates raise what they like; the request itself is next
        return set()
    rest = vocabulary.tokenizer.encode(text.rpartition(answer)[2], add_special_tokens=False)
    return set(rest[:1]) & special


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
