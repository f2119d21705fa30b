"""The settings of the generating process, as the server hands them over."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WorkerSettings"]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the generating process behaves.

    Attributes:
        threads: Threads for torch; None for what OMP_NUM_THREADS says.
        memory_bytes: Bytes of weights to hold; None for half of the memory.
        cache_bytes: Bytes of keys and values for each base.
        rows: Most choices generated at a time on one base.
        prompt_tokens: Most prompt tokens read in one step; None suits the device.
        dtype: "auto", "float32" or "bfloat16".
        device: "auto", "cpu" or "cuda".
    """

    threads: int | None = None
    memory_bytes: int | None = None
    cache_bytes: int = 2 << 30
    rows: int = 32
    prompt_tokens: int | None = None
    dtype: str = "auto"
    device: str = "auto"
