"""The device and the dtype that models run with: one choice for training and for serving."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch.nn import functional

__all__ = ["best_dtype", "pick_device"]

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel's and AMD's; the last is ARM's


def pick_device() -> torch.device:
    """Return the GPU if there is one, NVIDIA's, AMD's or Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() and _mps_works() else "cpu")


def best_dtype(device: torch.device, *, gpu_fallback: torch.dtype = torch.float32) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it, else float32.

    Args:
        device: The device that the model runs on.
        gpu_fallback: The dtype for a GPU without bfloat16.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else gpu_fallback
    if device.type == "mps":
        return torch.bfloat16 if _mps_works(torch.bfloat16) else torch.float32
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def _cpu_has_bfloat16() -> bool:
    try:
        words = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(words)


@cache
def _mps_works(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether Apple's GPU does what a training of a small model does, in a precision.

    Older systems and versions of PyTorch lack bfloat16 or the gradient of attention.
    """
    try:
        x = torch.ones(1, 2, 8, 16, device="mps", dtype=dtype, requires_grad=True)
        y = functional.scaled_dot_product_attention(x @ x.new_ones(16, 16), x, x, is_causal=True)
        torch.autograd.backward(y.float().logsumexp(-1).sum())
        return x.grad is not None and bool(torch.isfinite(x.grad).all())
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        return False
