"""Estimates the memory that a model needs from its number of parameters alone.

For choosing a model before it is pulled. Once its configuration is here, the plan of a job computes
from the real shapes. The factors hold for dense models of 1 to 70 billion parameters: weights of
2 bytes each, or about 0.55 in four bits, and what training adds to them. With them 8 billion
parameters need 19 GB for LoRA and 6 for QLoRA; Unsloth states 22 and 6
(https://unsloth.ai/docs/get-started/fine-tuning-for-beginners/unsloth-requirements).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "USES",
    "Use",
    "available_host_memory",
    "give_host_memory_back",
    "host_memory_bytes",
    "memory_needed",
    "memory_of_this_machine",
]

Use = Literal["serve", "qlora", "lora", "full"]
USES: Final[tuple[Use, ...]] = ("serve", "qlora", "lora", "full")

# Bytes for each parameter, and bytes whatever their number: activations, buffers, libraries.
_COSTS: Final[dict[Use, tuple[float, float]]] = {
    "serve": (2.0, 0.5e9),
    "qlora": (0.6, 1.2e9),
    "lora": (2.2, 1.5e9),
    "full": (16.0, 2.0e9),
}


def memory_needed(parameters: int, use: Use) -> int:
    """Return the bytes that a model needs, about.

    Args:
        parameters: Number of its parameters.
        use: "serve" in bf16; "qlora" and "lora" for training an adapter on a base in four bits and
            in bf16; "full" for training all weights in float32.
    """
    each, fixed = _COSTS[use]
    return int(parameters * each + fixed)


def host_memory_bytes() -> int:
    """Return the bytes of this machine's memory, free or not; 0 where the system does not say."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_host_memory() -> float:
    """Return the bytes that programs can still get; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(number) * 1024 for number in kilobytes), float("inf"))


def give_host_memory_back() -> None:
    """Give the system what has been freed; a worker's malloc keeps it otherwise.

    Does nothing where the C library has no such call.
    """
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def memory_of_this_machine() -> tuple[str, int]:
    """Return where models run here, and the bytes of its memory: all of it, free or not."""
    import torch  # noqa: PLC0415 - slow to import, and not to compute an estimate

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return properties.name, properties.total_memory
    return "processor", host_memory_bytes()
