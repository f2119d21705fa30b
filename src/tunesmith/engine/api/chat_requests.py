"""The body of `/v1/chat/completions`, and its messages in the form that chat templates take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.datasets.chat_messages import MessageError, normalize_messages
from tunesmith.engine.serving.generation import ChatPrompt, GenerationRequest

from .chat_tools import ToolUse, response_schema, tool_use
from .generation_requests import MAX_NAME_LENGTH, GenerationBody, NoEffect, Refused, refuse
from .http_errors import invalid

__all__ = ["ChatBody", "EngineChatBody", "is_nested_deeper"]

MAX_DEPTH = 100  # pydantic writes up to 255 levels, the request's own included
REFUSED = {
    "audio": "the models here write text only",
    "functions": "it was replaced by tools",
    "function_call": "it was replaced by tool_choice",
    "moderation": "this engine does not moderate",
    "prediction": "this engine does not speculate on predicted text",
    "verbosity": "the models here have no such setting",
    "web_search_options": "this engine does not search",
}
# Parameters of `apply_chat_template`, which are no variables of a template.
RESERVED = frozenset(
    {
        "self",
        "conversation",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
    }
)


class ChatBody(GenerationBody):
    """The body of a chat completion request."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: NoEffect = None
    prompt_cache_key: NoEffect = None
    prompt_cache_options: NoEffect = None
    prompt_cache_retention: NoEffect = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    include_reasoning: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    audio: Refused = None
    functions: Refused = None
    function_call: Refused = None
    moderation: Refused = None
    prediction: Refused = None
    verbosity: Refused = None
    web_search_options: Refused = None

    def to_generation(self) -> GenerationRequest:
        """Return the request in the form that the generator takes.

        Raises:
            ApiError: 400 if fields contradict each other or ask for what is not supported.
        """
        self._refuse_unsupported()
        self._check_depth()
        self.check_stream()
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid(
                "top_logprobs needs logprobs: set logprobs to true.", param="top_logprobs"
            )
        schema = response_schema(self.response_format)
        use = self.tool_use()
        self._check_template_options()
        limits = [n for n in (self.max_completion_tokens, self.max_tokens) if n is not None]
        return GenerationRequest(
            chat=ChatPrompt(
                messages=_for_template(self.messages),
                tools=use.tools or None,
                forced_calls=use.forced,
                parallel_calls=use.parallel,
                reasoning_effort=self.reasoning_effort,
                template_options=self.chat_template_kwargs or {},
            ),
            response_schema=schema,
            max_tokens=min(limits, default=None),
            best_of=self.n or 1,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.shared(),
        )

    @property
    def wants_reasoning(self) -> bool:
        """True if the answer must show what the model thinks."""
        return self.include_reasoning is not False

    def tool_use(self) -> ToolUse:
        """Return how the request uses tools.

        Raises:
            ApiError: 400 for an invalid tool or tool choice.
        """
        return tool_use(self.tools, self.tool_choice, parallel=self.parallel_tool_calls)

    def _check_template_options(self) -> None:
        """Raise ApiError for variables of the template that the engine itself sets."""
        for name in self.chat_template_kwargs or ():
            if name in RESERVED or not name.isidentifier() or len(name) > MAX_NAME_LENGTH:
                raise invalid(
                    f"chat_template_kwargs.{name} cannot be set: it is no name of a variable, or "
                    "one that the engine sets itself. Thinking is switched with "
                    '{"enable_thinking": true} or false.',
                    param="chat_template_kwargs",
                )

    def _check_depth(self) -> None:
        """Raise ApiError for JSON that is nested deeper than what reads it later can follow."""
        for name in ("messages", "tools", "response_format", "chat_template_kwargs"):
            if is_nested_deeper(getattr(self, name), MAX_DEPTH):
                raise invalid(
                    f"{name} is nested too deeply; at most {MAX_DEPTH} levels are accepted.",
                    param=name,
                )

    def _refuse_unsupported(self) -> None:
        for name, reason in REFUSED.items():
            if getattr(self, name) is not None:
                raise refuse(name, reason)
        if self.modalities is not None and self.modalities != ["text"]:
            raise refuse("modalities", 'the models here write text only, which is ["text"]')
        if self.service_tier not in {None, "auto", "default"}:
            raise refuse("service_tier", "there is one tier here, named 'auto' or 'default'")


def is_nested_deeper(value: Any, levels: int) -> bool:
    """Return True if JSON has containers inside each other at more than `levels` levels."""
    inside = [value]
    for _ in range(levels + 1):
        containers = (one for one in inside if isinstance(one, dict | list))
        inside = [
            part
            for one in containers
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]
        if not inside:
            return False
    return True


class EngineChatBody(ChatBody):
    """The same where the path names the model."""

    model: Annotated[str, Field(max_length=MAX_NAME_LENGTH)] = ""


def _for_template(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages in the form in which rows are trained, too."""
    try:
        return normalize_messages(messages)
    except MessageError as error:
        raise invalid(str(error), param=error.path) from None
