"""Where the data goes: the limits and habits of each destination, as dated tables.

A profile holds facts, no code. `as_of` says when its facts were looked up, `sources` where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.findings import Severity
from tunesmith.datasets.rows import ROW_FORMATS, RowFormat

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
        sources: Where they stand.
        shapes: Row shapes that it takes.
        limits: Token limit by shape, where no model is named.
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
        """Return the limit for rows of a shape, for a model if one is named."""
        if model is not None:
            name = model.removeprefix("ft:")
            for start in sorted(self.models, key=len, reverse=True):
                if name.startswith(start):
                    return self.models[start]
        return self.limits.get(shape)


_MEGABYTE: Final = 1_000_000
_GIGABYTE: Final = 1_000_000_000
_MEBIBYTE: Final = 1 << 20

_OPENAI_MODELS: Final = {
    "ada": TokenLimit(2_048, "r50k_base"),
    "babbage": TokenLimit(2_048, "r50k_base"),
    "curie": TokenLimit(2_048, "r50k_base"),
    "davinci": TokenLimit(2_048, "r50k_base"),
    "babbage-002": TokenLimit(16_384, "cl100k_base"),
    "davinci-002": TokenLimit(16_384, "cl100k_base"),
    "gpt-3.5-turbo": TokenLimit(16_385, "cl100k_base"),
    "gpt-3.5-turbo-0613": TokenLimit(4_096, "cl100k_base"),
    "gpt-4o": TokenLimit(65_536, "o200k_base"),
    "gpt-4.1": TokenLimit(65_536, "o200k_base"),
}

_LEGACY: Final = TokenLimit(2_048, "r50k_base")
_CHAT: Final = TokenLimit(65_536, "o200k_base")

DESTINATIONS: Final[Mapping[str, Destination]] = {
    profile.name: profile
    for profile in (
        Destination(
            name="engine",
            as_of="2026-11",
            sources=("tunesmith.engine: 2,048 tokens an example unless the job says otherwise",),
            shapes=("prompt_completion", "chat", "preference"),
            limits={
                "prompt_completion": _LEGACY,
                "chat": TokenLimit(2_048, "cl100k_base"),
                "preference": TokenLimit(2_048, "cl100k_base"),
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
                "prompt_completion": _LEGACY,
                "chat": _CHAT,
                "preference": _CHAT,
                "reinforcement": _CHAT,
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
                "prompt_completion": _LEGACY,
                "chat": _CHAT,
                "preference": _CHAT,
                "reinforcement": _CHAT,
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


def destination_named(profile: str | Destination) -> Destination:
    """Return the profile of a name; a profile is returned as it is.

    Raises:
        DatasetError: No profile has that name.
    """
    if isinstance(profile, Destination):
        return profile
    if profile not in DESTINATIONS:
        raise DatasetError(f"Unknown profile {profile!r}: choose one of {', '.join(DESTINATIONS)}.")
    return DESTINATIONS[profile]
