"""Where data goes: the limits and rules of each destination, as dated tables.

A destination holds facts, no code. `as_of` says when they were looked up, `sources` where. The
public names `tunesmith.datasets.PROFILES` and `Profile` stand for `DESTINATIONS` and `Destination`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from .dataset_errors import DatasetError
from .findings import Severity
from .rows import ROW_FORMATS, RowFormat
from .training_defaults import DEFAULT_TOKEN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DESTINATIONS", "Destination", "TokenLimit", "destination_named"]


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """How many tokens a row may have.

    Attributes:
        tokens: The limit, prompt and completion together.
        encoding: The vocabulary in which they are counted.
    """

    tokens: int
    encoding: str


@dataclass(frozen=True, slots=True)
class Destination:
    """The facts about a destination.

    Attributes:
        name: What it is called.
        as_of: Month in which the facts were looked up.
        sources: Where they are published.
        shapes: Row formats that it accepts.
        limits: Token limit by row format, where no model is named.
        models: Token limit by the start of a model's name; the longest match counts.
        minimum_rows: Fewer are refused.
        maximum_rows: More are refused.
        maximum_bytes: Larger files are refused.
        byte_order_mark: Whether the file must start with one, may, or should not.
        severities: Severities that differ from the rules' own.
    """

    name: str
    as_of: str
    sources: tuple[str, ...]
    shapes: tuple[RowFormat, ...] = ROW_FORMATS
    limits: Mapping[RowFormat, TokenLimit] = field(default_factory=dict[RowFormat, TokenLimit])
    models: Mapping[str, TokenLimit] = field(default_factory=dict[str, TokenLimit])
    minimum_rows: int = 1
    maximum_rows: int | None = None
    maximum_bytes: int | None = None
    byte_order_mark: Literal["required", "allowed", "unwanted"] = "allowed"
    severities: Mapping[str, Severity] = field(default_factory=dict[str, Severity])

    def token_limit(self, shape: RowFormat, model: str | None = None) -> TokenLimit | None:
        """Return the limit for rows of a format, for a model if one is named."""
        if model is not None:
            name = model.removeprefix("ft:")
            for start in sorted(self.models, key=len, reverse=True):
                if name.startswith(start):
                    return self.models[start]
        return self.limits.get(shape)


_MEGABYTE: Final = 1_000_000
_GIGABYTE: Final = 1_000_000_000
_MEBIBYTE: Final = 1 << 20

_LEGACY_LIMIT: Final = TokenLimit(DEFAULT_TOKEN_LIMIT, "r50k_base")

_OPENAI_MODELS: Final = {
    "ada": _LEGACY_LIMIT,
    "babbage": _LEGACY_LIMIT,
    "curie": _LEGACY_LIMIT,
    "davinci": _LEGACY_LIMIT,
    "babbage-002": TokenLimit(16_384, "cl100k_base"),
    "davinci-002": TokenLimit(16_384, "cl100k_base"),
    "gpt-3.5-turbo": TokenLimit(16_385, "cl100k_base"),
    "gpt-3.5-turbo-0613": TokenLimit(4_096, "cl100k_base"),
    "gpt-4o": TokenLimit(65_536, "o200k_base"),
    "gpt-4.1": TokenLimit(65_536, "o200k_base"),
}

_CHAT_LIMIT: Final = TokenLimit(65_536, "o200k_base")

DESTINATIONS: Final[Mapping[str, Destination]] = {
    destination.name: destination
    for destination in (
        Destination(
            name="engine",
            as_of="2026-11",
            sources=(
                f"tunesmith.engine: {DEFAULT_TOKEN_LIMIT:,} tokens unless the job says otherwise",
            ),
            shapes=("prompt_completion", "chat", "preference"),
            limits={
                "prompt_completion": _LEGACY_LIMIT,
                "chat": TokenLimit(DEFAULT_TOKEN_LIMIT, "cl100k_base"),
                "preference": TokenLimit(DEFAULT_TOKEN_LIMIT, "cl100k_base"),
            },
            severities={"file-bom": "info"},
        ),
        Destination(
            name="openai",
            as_of="2026-11",
            sources=(
                "github.com/openai/openai-openapi: FineTune*RequestInput schemas",
                "platform.openai.com/docs/guides/fine-tuning",
            ),
            limits={
                "prompt_completion": _LEGACY_LIMIT,
                "chat": _CHAT_LIMIT,
                "preference": _CHAT_LIMIT,
                "reinforcement": _CHAT_LIMIT,
            },
            models=_OPENAI_MODELS,
            minimum_rows=10,
            maximum_bytes=512 * _MEGABYTE,
            byte_order_mark="unwanted",
        ),
        Destination(
            name="azure",
            as_of="2026-11",
            sources=("learn.microsoft.com/azure/ai-services/openai/how-to/fine-tuning",),
            limits={
                "prompt_completion": _LEGACY_LIMIT,
                "chat": _CHAT_LIMIT,
                "preference": _CHAT_LIMIT,
                "reinforcement": _CHAT_LIMIT,
            },
            models=_OPENAI_MODELS,
            minimum_rows=10,
            maximum_bytes=512 * _MEBIBYTE,
            byte_order_mark="required",
            severities={"last-message-assistant": "error"},
        ),
        Destination(
            name="together",
            as_of="2026-11",
            sources=("docs.together.ai/docs/fine-tuning-data-preparation", "together 3.1.1"),
            shapes=("prompt_completion", "chat", "preference"),
            maximum_bytes=50_100 * _MEGABYTE,
        ),
        Destination(
            name="fireworks",
            as_of="2026-11",
            sources=("docs.fireworks.ai/fine-tuning", "fireworks-ai 1.2.30"),
            shapes=("chat", "preference", "reinforcement"),
            minimum_rows=3,
            maximum_rows=3_000_000,
        ),
        Destination(
            name="mistral",
            as_of="2026-11",
            sources=("github.com/mistralai/mistral-finetune",),
            shapes=("chat",),
            maximum_bytes=_GIGABYTE // 2,
            severities={
                "tool-call-unanswered": "error",
                "tool-result-orphan": "error",
                "last-message": "error",
            },
        ),
    )
}


def destination_named(destination: str | Destination) -> Destination:
    """Return the destination of a name; a `Destination` is returned as it is.

    Raises:
        DatasetError: There is no destination of that name.
    """
    if isinstance(destination, Destination):
        return destination
    if destination not in DESTINATIONS:
        names = ", ".join(DESTINATIONS)
        raise DatasetError(f"Unknown destination {destination!r}: choose one of {names}.")
    return DESTINATIONS[destination]
