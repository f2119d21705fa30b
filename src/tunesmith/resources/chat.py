"""Chat: the namespace of chat completions."""

from __future__ import annotations

from functools import cached_property

from .chat_completions import ChatCompletions
from .operations import ClientT_co, Resource

__all__ = ["Chat"]


class Chat(Resource[ClientT_co]):
    """`client.chat`."""

    @cached_property
    def completions(self) -> ChatCompletions[ClientT_co]:
        """Chat completions."""
        return ChatCompletions(self._client)
