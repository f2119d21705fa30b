"""The general path of serving: plain transformers, with the cache that a model makes itself.

For every model of which the fast path was not proven equal: recurrent and hybrid ones, windows
of another kind, heads of several sizes. Each sequence is run alone, so nothing is padded and no
sequence can change another's answer; a prompt is read in one pass, because recurrent layers take
no prompt in parts. A model whose own cache does not compute what it computes without is run
without one: every token again, at each step. Slower, and never wrong.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .model_runner import NextTokenLogits, append_prompt_logprobs, sample_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence as Collection

    from torch import Tensor

    from .loaded_base import LoadedBase
    from .lora import LoraAdapter
    from .sampling_state import Logprobs
    from .sequence import Sequence

__all__ = ["GeneralCache", "GeneralRunner", "returned_cache"]

_CACHE_NAMES = ("past_key_values", "cache_params", "state")


@dataclass(slots=True)
class GeneralCache:
    """The caches of running sequences, one in each slot, as the model made them.

    Args:
        budget: Most positions in all slots together; a single sequence may exceed it.
        slots: The cache in each slot; None where it has to be computed again.
    """

    budget: int
    slots: dict[int, Any] = field(default_factory=dict[int, Any])

    def can_allocate(self, slots: int, length: int) -> bool:
        """Return True if that many slots of that length are within the budget."""
        return slots * length <= self.budget

    def reserve(self, slots: int, length: int) -> None:
        """Do nothing: each cache grows by itself."""

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy a slot's cache, which is always whole, to another slot."""
        del length
        self.slots[target] = copy.deepcopy(self.slots.get(source))

    def release(self) -> None:
        """Free all memory."""
        self.slots.clear()


@dataclass(frozen=True, slots=True)
class GeneralRunner:
    """Runs one base model, sequence by sequence; see `ModelRunner` for what its methods do.

    Args:
        base: The model.
        cache: The caches of its sequences.
    """

    base: LoadedBase
    cache: GeneralCache

    def prefill(
        self, sequences: list[Sequence], first_slot: int, start: int, stop: int
    ) -> NextTokenLogits:
        """Read the prompts that end by `stop`; of longer ones only score the part."""
        results = []
        for index, sequence in enumerate(sequences):
            end = min(sequence.num_tokens, stop)
            if sequence.needs_prompt_logprobs:
                scores = self._run(sequence.token_ids(0, end), sequence.adapter, start, exact=True)
                append_prompt_logprobs(sequence, scores.values, start)
            if sequence.num_tokens <= stop:
                tokens = sequence.token_ids(0, end)
                results.append(self._read(first_slot + index, tokens, sequence))
            sequence.num_cached = end
        return _joined(results, self.base)

    def decode(self, sequences: list[Sequence]) -> NextTokenLogits:
        """Compute the logits after the last token of each sequence."""
        results = []
        for slot, sequence in enumerate(sequences):
            cache = self.cache.slots.get(slot)
            if cache is None:
                tokens = sequence.token_ids(0, sequence.num_tokens)
                result = self._read(slot, tokens, sequence)
            else:
                result = self._run(
                    sequence.tokens[-1:],
                    sequence.adapter,
                    0,
                    exact=sequence.needs_logprobs,
                    cache=cache,
                )
            results.append(result)
            sequence.num_cached += 1
        return _joined(results, self.base)

    def sample(
        self, sequences: list[Sequence], logits: NextTokenLogits
    ) -> list[tuple[int, Logprobs | None] | Exception]:
        """Return the next token of each sequence."""
        return sample_tokens(self.base, sequences, logits)

    def _read(self, slot: int, tokens: list[int], sequence: Sequence) -> NextTokenLogits:
        """Run a whole text; keep its cache in a slot, if the model's own cache may be used."""
        cache: dict[str, Any] | None = {} if self.base.caches else None
        self.cache.slots[slot] = cache
        return self._run(
            tokens,
            sequence.adapter,
            len(tokens) - 1,
            exact=sequence.needs_logprobs,
            cache=cache,
        )

    def _run(
        self,
        tokens: Collection[int],
        adapter: LoraAdapter | None,
        first: int,
        *,
        exact: bool,
        cache: dict[str, Any] | None = None,
    ) -> NextTokenLogits:
        """Run tokens; return the logits from the token `first` on.

        Args:
            tokens: T token ids.
            adapter: The adapter to apply.
            first: Index of the first token whose logits to return.
            exact: Whether the logits are needed in float32.
            cache: What the model returned for the tokens before; replaced by what it returns
                now. None to run without one.
        """
        base = self.base
        base.lora.set_active([adapter])
        count = len(tokens)
        base.lm_head.rows = torch.arange(first, count, device=base.device)
        base.lm_head.exact_rows = list(range(count - first)) if exact else []
        output = base.model(
            input_ids=torch.tensor([list(tokens)], device=base.device),
            use_cache=cache is not None,
            **(cache or {}),
        )
        if cache is not None:
            cache.update(returned_cache(output))
        logits: Tensor = output.logits
        hidden = base.lm_head.hidden
        assert hidden is not None  # noqa: S101 - for the type checker
        return NextTokenLogits(logits.reshape(-1, logits.shape[-1]), hidden)


def returned_cache(output: Any) -> dict[str, Any]:
    """Return the cache in a model's output under the name of the argument that takes it."""
    for name in _CACHE_NAMES:
        if getattr(output, name, None) is not None:
            return {name: getattr(output, name)}
    return {}


def _joined(results: list[NextTokenLogits], base: LoadedBase) -> NextTokenLogits:
    if not results:  # of a prompt that goes on
        empty = torch.empty(0, device=base.device)
        return NextTokenLogits(empty, empty)
    exact = any(result.values.dtype == torch.float32 for result in results)
    return NextTokenLogits(
        torch.cat([r.values[-1:].float() if exact else r.values[-1:] for r in results]),
        torch.cat([result.hidden[-1:] for result in results]),
    )
