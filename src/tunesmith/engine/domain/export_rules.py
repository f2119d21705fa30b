"""Which exports of a model there are: one rule for the command line, the API and the exporter."""

from __future__ import annotations

__all__ = ["export_fault"]

_UNQUANTIZED = ("f32", "f16", "bf16")


def export_fault(
    name: str, export_format: str, quantization: str, *, is_adapter: bool
) -> str | None:
    """Return why a model has no such export, and what to ask for instead; None if it has.

    Args:
        name: The model's name.
        export_format: "peft", "merged", "gguf" or "ollama".
        quantization: The type of the weights.
        is_adapter: Whether the model is an adapter.
    """
    if export_format == "peft" and not is_adapter:
        return (
            f"{name} has no adapter: it consists of whole weights. Export it as merged weights, "
            "with the format 'merged'."
        )
    if export_format == "merged" and quantization not in _UNQUANTIZED:
        return (
            f"Merged weights cannot be {quantization}: choose f32, f16 or bf16, or the format "
            "'gguf'."
        )
    return None
