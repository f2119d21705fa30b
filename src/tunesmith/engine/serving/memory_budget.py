"""How much memory a model worker takes for weights, and for keys and values.

On a GPU it is the card's memory that counts, of which the worker has all: its lease keeps trainings
away. On a processor the memory is shared with everything else.
"""

from __future__ import annotations

import torch

from tunesmith.engine.models.memory_table import available_host_memory, host_memory_bytes

__all__ = ["cache_budget", "max_sequences", "weights_budget"]

GPU_WEIGHTS_SHARE, HOST_WEIGHTS_SHARE = 0.8, 0.5  # of all memory
GPU_CACHE_SHARE, HOST_CACHE_SHARE = 0.8, 0.25  # of what is free once the weights are loaded
LEAST_CACHE, UNKNOWN_CACHE = 256 << 20, 2 << 30
GPU_SEQUENCES, HOST_SEQUENCES = 256, 32


def weights_budget(device: torch.device) -> int:
    """Return the bytes of weights that may be in the memory of a device at a time."""
    if device.type == "cuda":
        return int(GPU_WEIGHTS_SHARE * torch.cuda.mem_get_info(device)[1])
    return int(HOST_WEIGHTS_SHARE * host_memory_bytes())


def cache_budget(device: torch.device) -> int:
    """Return the bytes of keys and values that one base model may take on a device now."""
    if device.type == "cuda":
        # What torch has reserved and does not use is free, too.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(GPU_CACHE_SHARE * (torch.cuda.mem_get_info(device)[0] + unused))
    free = available_host_memory()
    if free == float("inf"):
        return UNKNOWN_CACHE
    return max(LEAST_CACHE, int(HOST_CACHE_SHARE * free))


def max_sequences(device: torch.device) -> int:
    """Return how many sequences of one base model are generated at a time on a device."""
    return GPU_SEQUENCES if device.type == "cuda" else HOST_SEQUENCES
