"""Exports of models: a model in a form that other programs load, made by the engine."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from tunesmith._lazy import set_public_module

from .base import TERMINAL_STATUSES, WireModel

__all__ = [
    "ExportFormat",
    "ModelExport",
    "ModelExportComparison",
    "ModelExportDeleted",
    "ModelExportError",
    "ModelExportStatus",
    "Quantization",
]

ExportFormat: TypeAlias = Literal["peft", "merged", "gguf", "ollama"]
"""What an export can be: an adapter, whole weights, a file for llama.cpp, the same for Ollama."""

Quantization: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q4_1", "q4_0"]
"""The types that an export's weights can have."""

ModelExportStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"] | str


class ModelExportComparison(WireModel):
    """How far the copy's answers are from those of the model that the engine serves.

    Attributes:
        divergence: Mean Kullback-Leibler divergence of the next-token distributions, in nats a
            token.
        largest_logit_difference: Largest difference of two logits.
        same_top_token: Share of the positions at which both prefer the same token.
        positions: Number of the positions compared.
        effect_of_fine_tuning: The divergence between the base model and the fine-tuned one, the
            scale for `divergence`; None for a base model.
    """

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    divergence: float = 0.0
    largest_logit_difference: float = 0.0
    same_top_token: float = 0.0
    positions: int = 0
    effect_of_fine_tuning: float | None = None


class ModelExportError(WireModel):
    """Why an export has failed."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    code: str = ""
    message: str = ""


class ModelExport(WireModel):
    """An export of a model.

    Attributes:
        id: "export-…".
        created_at: Unix time in seconds.
        model: The model's name.
        format: "peft", "merged", "gguf" or "ollama".
        quantization: The type of the weights.
        with_base: Whether the base model is beside the adapter.
        status: "queued", "running", "succeeded", "failed" or "cancelled".
        step: What is being done now.
        progress: Share of the steps that are done, 0 to 1.
        finished_at: Unix time in seconds; None until it has ended.
        expires_at: When the server removes it; None until it has ended.
        filename: Name of the archive, a tar file; None until it is there.
        bytes: Its size.
        sha256: Its hash, in hexadecimal.
        comparison: The comparison with the served model, if one was made.
        error: Why it has failed.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "model", "format", "status", "progress")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "status"})

    id: str
    created_at: int = 0
    object: Literal["model.export"] | str = "model.export"
    model: str = ""
    format: ExportFormat | str = ""
    quantization: Quantization | str = ""
    with_base: bool = False
    status: ModelExportStatus
    step: str = ""
    progress: float = 0.0
    finished_at: int | None = None
    expires_at: int | None = None
    filename: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    comparison: ModelExportComparison | None = None
    error: ModelExportError | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the export has ended and can no longer change."""
        return self.status in TERMINAL_STATUSES


class ModelExportDeleted(WireModel):
    """The answer to a deletion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    object: Literal["model.export"] | str = "model.export"
    deleted: bool = True


set_public_module(globals(), "tunesmith.types")
