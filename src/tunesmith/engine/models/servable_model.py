"""What the serving room needs to know of a model: where its weights lie, and its prompt format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ServableModel"]


@dataclass(frozen=True, slots=True)
class ServableModel:
    """A model that can answer.

    Attributes:
        name: The name that requests use and answers echo.
        base_model: Id of the base model in the table of base models.
        base_path: Folder with the base model's safetensors and tokenizer.
        adapter_path: Folder with a PEFT adapter to put on the base, or whole
            fine-tuned weights (a `model.safetensors` and no `adapter_config.json`);
            None for a base model.
        prompt_format: The format that the model was trained with, as
            `tunesmith.datasets.PromptFormat` writes it, where it is known.
    """

    name: str
    base_model: str
    base_path: Path
    adapter_path: Path | None = None
    prompt_format: dict[str, Any] | None = None
