"""Chat: the namespace of chat completions."""

from __future__ import annotations

from functools import cached_property

from tunesmith.core.modes import ModeT_co

from .chat_completions import ChatCompletions
from .operations import Resource

__all__ = ["Chat"]


class Chat(Resource[ModeT_co]):
    """`client.chat`."""

    @cached_property
    def completions(self) -> ChatCompletions[ModeT_co]:
        """Chat completions."""
        return ChatCompletions(self._executor)
