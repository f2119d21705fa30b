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
    from collections.abc import Iterable, Mapping

    from .row_formats.dialects import Dialect

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
        model_shapes: Row formats that a model learns from, by the start of its name; any where
            none matches.
        retired_models: The date from which a model can no longer be trained or used, by name or
            by its start before a "-" or ":".
        retired_shapes: The date from which no model learns from a row format any more.
        retired: Why nothing can be trained there any more, as a sentence; "" if it can.
        dialect: Rules for rows beyond their format; see `row_formats.dialects`.
        images_per_row: More images in a row are refused.
        rows_with_images: More rows with images are refused.
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
    model_shapes: Mapping[str, tuple[RowFormat, ...]] = field(
        default_factory=dict[str, tuple[RowFormat, ...]]
    )
    retired_models: Mapping[str, str] = field(default_factory=dict[str, str])
    retired_shapes: Mapping[RowFormat, str] = field(default_factory=dict[RowFormat, str])
    retired: str = ""
    dialect: Dialect = ""
    images_per_row: int | None = None
    rows_with_images: int | None = None
    minimum_rows: int = 1
    maximum_rows: int | None = None
    maximum_bytes: int | None = None
    byte_order_mark: Literal["required", "allowed", "unwanted"] = "allowed"
    severities: Mapping[str, Severity] = field(default_factory=dict[str, Severity])

    def token_limit(self, shape: RowFormat, model: str | None = None) -> TokenLimit | None:
        """Return the limit for rows of a format, for a model if one is named."""
        start = _longest_start(model, self.models)
        return self.limits.get(shape) if start is None else self.models[start]

    def shapes_of(self, model: str) -> tuple[RowFormat, ...]:
        """Return the row formats that a model learns from."""
        start = _longest_start(model, self.model_shapes)
        return self.shapes if start is None else self.model_shapes[start]

    def retired_on(self, model: str) -> str:
        """Return the date from which a model can no longer be trained or used, or ""."""
        name = model.removeprefix("ft:")
        matches = [
            start
            for start in self.retired_models
            if name == start or name.startswith((f"{start}-", f"{start}:"))
        ]
        return self.retired_models[max(matches, key=len)] if matches else ""


def _longest_start(model: str | None, names: Iterable[str]) -> str | None:
    """Return the longest of the names with which a model's name starts."""
    name = (model or "").removeprefix("ft:")
    matches = [start for start in names if name.startswith(start)] if model else []
    return max(matches, key=len, default=None)


_MEGABYTE: Final = 1_000_000
_GIGABYTE: Final = 1_000_000_000
_MEBIBYTE: Final = 1 << 20

_LEGACY_LIMIT: Final = TokenLimit(DEFAULT_TOKEN_LIMIT, "r50k_base")

# The last completion models, whose fine-tunes OpenAI shut down on 23 October 2026.
_COMPLETION_LIMIT: Final = TokenLimit(16_384, "cl100k_base")

_OPENAI_MODELS: Final = {
    "ada": _LEGACY_LIMIT,
    "babbage": _LEGACY_LIMIT,
    "curie": _LEGACY_LIMIT,
    "davinci": _LEGACY_LIMIT,
    "babbage-002": _COMPLETION_LIMIT,
    "davinci-002": _COMPLETION_LIMIT,
    "gpt-3.5-turbo": TokenLimit(16_385, "cl100k_base"),
    "gpt-3.5-turbo-0613": TokenLimit(4_096, "cl100k_base"),
    "gpt-4o": TokenLimit(65_536, "o200k_base"),
    "gpt-4.1": TokenLimit(65_536, "o200k_base"),
}

_CHAT_LIMIT: Final = TokenLimit(65_536, "o200k_base")

_CHAT_SHAPES: Final[tuple[RowFormat, ...]] = ("chat", "preference")
_OPENAI_SHAPES: Final[Mapping[str, tuple[RowFormat, ...]]] = {
    **dict.fromkeys(("ada", "babbage", "curie", "davinci"), ("prompt_completion",)),
    **dict.fromkeys(("gpt-4o", "gpt-4.1"), _CHAT_SHAPES),
    **dict.fromkeys(("gpt-3.5", "gpt-35", "gpt-4"), ("chat",)),
    "o4-mini": ("reinforcement",),
}

_OPENAI_RETIRED_MODELS: Final = {
    **dict.fromkeys(("ada", "babbage", "curie", "davinci"), "4 January 2024"),
    **dict.fromkeys(
        (
            "babbage-002",
            "davinci-002",
            "gpt-3.5-turbo",
            "gpt-4",
            "gpt-4.1-nano",
            "gpt-4o-2024-05-13",
            "o4-mini",
        ),
        "23 October 2026",
    ),
}

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
                "developers.openai.com/api/docs/guides/vision-fine-tuning",
                "developers.openai.com/api/docs/deprecations: last new job on 6 January 2027",
            ),
            limits={
                "prompt_completion": _COMPLETION_LIMIT,
                "chat": _CHAT_LIMIT,
                "preference": _CHAT_LIMIT,
                "reinforcement": _CHAT_LIMIT,
            },
            models=_OPENAI_MODELS,
            model_shapes=_OPENAI_SHAPES,
            retired_models=_OPENAI_RETIRED_MODELS,
            retired_shapes={
                "prompt_completion": "23 October 2026",
                "reinforcement": "23 October 2026",
            },
            images_per_row=64,
            rows_with_images=50_000,
            minimum_rows=10,
            maximum_bytes=512 * _MEGABYTE,
            byte_order_mark="unwanted",
        ),
        Destination(
            name="azure",
            as_of="2026-11",
            sources=(
                "learn.microsoft.com/azure/ai-services/openai/how-to/fine-tuning",
                "learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning-vision",
                "github.com/microsoft-foundry/fine-tuning/issues/23: calls need tool messages",
            ),
            limits={
                "prompt_completion": _COMPLETION_LIMIT,
                "chat": _CHAT_LIMIT,
                "preference": _CHAT_LIMIT,
                "reinforcement": _CHAT_LIMIT,
            },
            models=_OPENAI_MODELS,
            model_shapes={**_OPENAI_SHAPES, "o4-mini": ("reinforcement",)},
            images_per_row=64,
            rows_with_images=50_000,
            minimum_rows=10,
            maximum_bytes=512 * _MEBIBYTE,
            byte_order_mark="required",
            severities={"last-message-assistant": "error", "tool-call-unanswered": "error"},
        ),
        Destination(
            name="together",
            as_of="2026-11",
            sources=(
                "docs.together.ai/docs/fine-tuning-data-preparation",
                "together 2.5.0, the last whose check_file looks into rows, and 3.1.1",
            ),
            shapes=("prompt_completion", "chat", "preference"),
            dialect="together",
            images_per_row=10,
            maximum_bytes=int(50.1 * (1 << 30)),
            # It takes them; that they hurt is still worth a warning.
            severities={
                "content-missing": "warning",
                "tool-call-type": "warning",
                "tool-type": "warning",
            },
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
            sources=("docs.mistral.ai/resources/deprecated",),
            shapes=("chat",),
            retired=(
                "Mistral no longer offers hosted fine-tuning (as of November 2026); for its "
                "open-source trainer choose 'mistral-finetune', for tunesmith 'engine'"
            ),
            dialect="mistral-finetune",
            maximum_bytes=_GIGABYTE // 2,
            severities={"last-message": "error"},
        ),
        Destination(
            name="mistral-finetune",
            as_of="2026-11",
            sources=(
                "github.com/mistralai/mistral-finetune of June 2026: finetune/data/tokenize.py",
                "mistral-common 1.13.1: the validator of version 3, for fine-tuning",
            ),
            shapes=("chat",),
            dialect="mistral-finetune",
            severities={
                "last-message": "error",
                "tool-schema": "error",
                "tool-call-type": "warning",
                "tool-type": "warning",
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
