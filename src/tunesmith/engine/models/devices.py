"""Where a model computes and in what numbers: one choice for training and for serving."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["best_dtype", "pick_device"]

_PROCESSOR = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel's and AMD's; the last is ARM's


def pick_device() -> torch.device:
    """Return the graphics processor if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device, *, old_gpu: torch.dtype = torch.float32) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it, else float32.

    Args:
        device: Where the model will be.
        old_gpu: What to take on a graphics processor that does not know bfloat16.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else old_gpu
    return torch.bfloat16 if _processor_has_bfloat16() else torch.float32


def _processor_has_bfloat16() -> bool:
    try:
        words = _PROCESSOR.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(words)
