"""The device and the dtype that models run with: one choice for training and for serving."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["best_dtype", "pick_device"]

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel's and AMD's; the last is ARM's


def pick_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device, *, gpu_fallback: torch.dtype = torch.float32) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it, else float32.

    Args:
        device: The device that the model runs on.
        gpu_fallback: The dtype for a GPU without bfloat16.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else gpu_fallback
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def _cpu_has_bfloat16() -> bool:
    try:
        words = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(words)
