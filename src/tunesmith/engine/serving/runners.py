"""What a scheduler needs of whatever runs its model: one protocol, two paths behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .general_runner import GeneralCache, GeneralRunner
from .kv_cache import create_kv_cache, position_bytes
from .model_runner import ModelRunner

if TYPE_CHECKING:
    from .loaded_base import LoadedBase
    from .model_runner import NextTokenLogits
    from .sampling_state import Logprobs
    from .sequence import Sequence

__all__ = ["Runner", "SlotCache", "create_runner"]


class SlotCache(Protocol):
    """What was computed of running sequences, each in a slot; see `KVCache`."""

    def can_allocate(self, slots: int, length: int) -> bool:
        """Return True if that many slots of that length are within the budget."""
        ...

    def reserve(self, slots: int, length: int) -> None:
        """Allocate that many slots of up to that length."""
        ...

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another."""
        ...

    def release(self) -> None:
        """Free all memory."""
        ...


class Runner(Protocol):
    """Runs a model over a batch of sequences; see `ModelRunner`."""

    def prefill(
        self, sequences: list[Sequence], first_slot: int, start: int, stop: int
    ) -> NextTokenLogits:
        """Compute the tokens from `start` to `stop` of each sequence."""
        ...

    def decode(self, sequences: list[Sequence]) -> NextTokenLogits:
        """Compute the last token of each sequence, in the first slots."""
        ...

    def sample(
        self, sequences: list[Sequence], logits: NextTokenLogits
    ) -> list[tuple[int, Logprobs | None] | Exception]:
        """Return the next token of each sequence, or the exception that ends it."""
        ...


def create_runner(base: LoadedBase, cache_bytes: int) -> tuple[SlotCache, Runner]:
    """Return an empty cache and the runner of the path that was proven for a model.

    Args:
        base: The model.
        cache_bytes: Most bytes of the cache.
    """
    if base.run_path == "fast":
        cache = create_kv_cache(base.config, base.dtype, cache_bytes)
        return cache, ModelRunner(base, cache)
    budget = cache_bytes // position_bytes(base.config, base.dtype)
    general = GeneralCache(budget)
    return general, GeneralRunner(base, general)
