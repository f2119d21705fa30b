"""The body of `/v1/chat/completions`, and its messages in the form that chat templates take."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from tunesmith.engine.serving.generation import ChatPrompt, GenerationRequest

from .chat_tools import ToolUse, response_schema, tool_use
from .generation_requests import MAX_NAME_LENGTH, GenerationBody, NoEffect, Refused, refuse
from .http_errors import ApiError, invalid

__all__ = ["ChatBody", "is_nested_deeper"]

MAX_DEPTH = 100  # pydantic writes up to 255 levels, the request's own included
ROLES = ("system", "developer", "user", "assistant", "tool")
REFUSED = {
    "audio": "the models here write text only",
    "functions": "it was replaced by tools",
    "function_call": "it was replaced by tool_choice",
    "moderation": "this engine does not moderate",
    "prediction": "this engine does not speculate on predicted text",
    "reasoning_effort": "the models here have no such setting",
    "verbosity": "the models here have no such setting",
    "web_search_options": "this engine does not search",
}


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
    audio: Refused = None
    functions: Refused = None
    function_call: Refused = None
    moderation: Refused = None
    prediction: Refused = None
    reasoning_effort: Refused = None
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
        limits = [n for n in (self.max_completion_tokens, self.max_tokens) if n is not None]
        return GenerationRequest(
            chat=ChatPrompt(
                messages=_for_template(self.messages),
                tools=use.tools or None,
                forced_calls=use.forced,
            ),
            response_schema=schema,
            max_tokens=min(limits, default=None),
            best_of=self.n or 1,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.shared(),
        )

    def tool_use(self) -> ToolUse:
        """Return how the request uses tools.

        Raises:
            ApiError: 400 for an invalid tool or tool choice.
        """
        return tool_use(self.tools, self.tool_choice, parallel=self.parallel_tool_calls)

    def _check_depth(self) -> None:
        """Raise ApiError for JSON that is nested deeper than what reads it later can follow."""
        for name in ("messages", "tools", "response_format"):
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


def _for_template(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: dict[str, Any], path: str) -> dict[str, Any]:
    """Return a message with its content as text and its calls' arguments as objects."""
    role = message.get("role")
    if role not in ROLES:
        raise invalid(
            f"{path}.role is {role!r}; it must be one of: {', '.join(ROLES)}.",
            param=f"{path}.role",
        )
    result: dict[str, Any] = {
        "role": "system" if role == "developer" else role,
        "content": _content(message, path),
    }
    if role == "assistant" and message.get("tool_calls"):
        result["tool_calls"] = _tool_calls(message["tool_calls"], path)
    for name in ("name", "tool_call_id"):
        if isinstance(message.get(name), str):
            result[name] = message[name]
    return result


def _content(message: dict[str, Any], path: str) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and (message.get("tool_calls") or message.get("refusal")):
        return str(message.get("refusal") or "")
    if isinstance(content, list) and content:
        return "".join(
            _part(part, f"{path}.content[{index}]") for index, part in enumerate(content)
        )
    raise _wrong_content(f"{path}.content")


def _part(part: Any, path: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get(kind) if isinstance(part, dict) and kind in {"text", "refusal"} else None
    if not isinstance(text, str):
        raise _wrong_content(path)
    return text


def _wrong_content(path: str) -> ApiError:
    return invalid(
        f'{path} must be a string, or a list of parts {{"type": "text", "text": …}}: the models '
        "here read text only.",
        param=path,
    )


def _tool_calls(calls: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise invalid(f"{path}.tool_calls must be a list.", param=f"{path}.tool_calls")
    return [_tool_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: Any, path: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(f"{path} must have a function with a name.", param=path)
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise invalid(
                f"{path}.function.arguments is not valid JSON.",
                param=f"{path}.function.arguments",
            ) from None
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
