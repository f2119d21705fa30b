"""What a simulated model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["Prompt"]


class Prompt(str):
    """The text of a prompt; for a chat, the text of its last message.

    Attributes:
        model: The name of the model that was asked.
        messages: The whole conversation, as chat templates read it; empty for a completion.
    """

    __slots__ = ("messages", "model")

    model: str
    messages: Sequence[dict[str, Any]]

    def __new__(cls, text: str, model: str, messages: Sequence[dict[str, Any]] = ()) -> Self:
        """Return the text with what belongs to it."""
        prompt = super().__new__(cls, text)
        prompt.model = model
        prompt.messages = messages
        return prompt
