"""The general path of serving: plain transformers, with the cache that a model makes itself.

For every model of which the fast path was not proven equal: recurrent and hybrid ones, windows
of another kind, heads of several sizes. Prompts that are read together are padded on the left and
answered together where a model was proven to compute for each what it computes for it alone;
elsewhere each sequence is run alone. A prompt is read in one pass, because recurrent layers take
no prompt in parts. A model whose own cache does not compute what it computes without is run
without one: every token again, at each step. Slower, and never wrong.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from .model_runner import NextTokenLogits, append_prompt_logprobs, sample_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from .loaded_base import LoadedBase
    from .sampling_state import Logprobs
    from .sequence import Sequence

__all__ = ["GeneralCache", "GeneralRunner", "SharedCache", "returned_cache"]

_CACHE_NAMES = ("past_key_values", "cache_params", "state")


@dataclass(slots=True, eq=False)
class SharedCache:
    """What a model computed of sequences that run together, one in each row.

    Attributes:
        values: What the model returned for the tokens so far, by the arguments that take it.
        size: Number of rows (B).
        mask: 1 at tokens and 0 at padding, (B, T); None without padding.
    """

    values: dict[str, Any]
    size: int = 1
    mask: Tensor | None = None

    def select(self, rows: list[int]) -> None:
        """Keep these rows, in this order; one that is named twice is copied."""
        if rows == list(range(self.size)):
            return
        device = torch.device("cpu") if self.mask is None else self.mask.device
        for value in self.values.values():
            value.reorder_cache(torch.tensor(rows, device=getattr(value, "device", device)))
        if self.mask is not None:
            self.mask = self.mask[torch.tensor(rows, device=device)]
        self.size = len(rows)


@dataclass(slots=True)
class GeneralCache:
    """The caches of running sequences, as the model made them.

    Args:
        budget: Most positions in all slots together; a single sequence may exceed it.
        slots: Cache and row of the sequence in each slot; None where it is computed again.
    """

    budget: int
    slots: dict[int, tuple[SharedCache, int] | None] = field(default_factory=dict)

    def can_allocate(self, slots: int, length: int) -> bool:
        """Return True if that many slots of that length are within the budget."""
        return slots * length <= self.budget

    def reserve(self, slots: int, length: int) -> None:
        """Do nothing: each cache grows by itself."""

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Let a slot have another one's cache, which is always whole; `arrange` makes it two."""
        del length
        self.slots[target] = self.slots.get(source)

    def arrange(self, count: int) -> list[tuple[SharedCache, list[int]]]:
        """Return the caches of the first slots, and of each the slots that its rows belong to.

        Rows of other slots are dropped, and rows of several slots are copied.

        Args:
            count: Number of slots in use.
        """
        members: dict[SharedCache, list[int]] = {}
        for slot in range(count):
            place = self.slots.get(slot)
            if place is not None:
                members.setdefault(place[0], []).append(slot)
        found: list[tuple[SharedCache, list[int]]] = []
        for shared, slots in members.items():
            if shared.size == 1:  # it may be of a kind that only copies
                copies = [copy.deepcopy(shared) for _ in slots[1:]]
                found += [(one, [slot]) for one, slot in zip([shared, *copies], slots, strict=True)]
                continue
            rows = [place[1] for slot in slots if (place := self.slots[slot]) is not None]
            shared.select(rows)
            found.append((shared, slots))
        self.slots = {
            slot: (shared, row) for shared, slots in found for row, slot in enumerate(slots)
        }
        return found

    def release(self) -> None:
        """Free all memory."""
        self.slots.clear()


@dataclass(frozen=True, slots=True)
class GeneralRunner:
    """Runs one base model; see `ModelRunner` for what its methods do.

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
        for sequence in sequences:
            if sequence.needs_prompt_logprobs:
                tokens = sequence.token_ids(0, min(sequence.num_tokens, stop))
                scores = self._run([tokens], [sequence], count=len(tokens) - start, exact=True)
                append_prompt_logprobs(sequence, scores.values, start)
        complete = [sequence for sequence in sequences if sequence.num_tokens <= stop]
        slots = [
            first_slot + index
            for index, sequence in enumerate(sequences)
            if sequence.num_tokens <= stop
        ]
        results = self._read(slots, complete)
        for sequence in sequences:
            sequence.num_cached = min(sequence.num_tokens, stop)
        return _joined(results, self.base)

    def decode(self, sequences: list[Sequence]) -> NextTokenLogits:
        """Compute the logits after the last token of each sequence."""
        results: dict[int, NextTokenLogits] = {}
        try:
            for shared, slots in self.cache.arrange(len(sequences)):
                members = [sequences[slot] for slot in slots]
                tokens = [sequence.tokens[-1:] for sequence in members]
                logits = self._run(tokens, members, shared=shared)
                results |= zip(slots, _rows(logits), strict=True)
            for slot, sequence in enumerate(sequences):
                if slot not in results:
                    results[slot] = self._read([slot], [sequence])[0]
        except BaseException:
            self.cache.release()  # some have taken in a token that is computed again
            raise
        for sequence in sequences:
            sequence.num_cached += 1
        return _joined([results[slot] for slot in range(len(sequences))], self.base)

    def sample(
        self, sequences: list[Sequence], logits: NextTokenLogits
    ) -> list[tuple[int, Logprobs | None] | Exception]:
        """Return the next token of each sequence."""
        return sample_tokens(self.base, sequences, logits)

    def _read(self, slots: list[int], sequences: list[Sequence]) -> list[NextTokenLogits]:
        """Read whole texts; keep their caches, if the model's own cache may be used."""
        if len(sequences) > 1 and not self.base.batches:
            pairs = zip(slots, sequences, strict=True)
            return [result for slot, one in pairs for result in self._read([slot], [one])]
        if not sequences:
            return []
        texts = [sequence.token_ids(0, sequence.num_tokens) for sequence in sequences]
        shared = None
        if self.base.caches:
            shared = SharedCache({}, len(texts), _mask(texts, self.base.device))
        for row, slot in enumerate(slots):
            self.cache.slots[slot] = None if shared is None else (shared, row)
        return _rows(self._run(texts, sequences, shared=shared))

    def _run(
        self,
        texts: list[list[int]],
        sequences: list[Sequence],
        *,
        count: int = 1,
        exact: bool = False,
        shared: SharedCache | None = None,
    ) -> NextTokenLogits:
        """Run B texts; return the logits of the last tokens of each.

        Args:
            texts: Token ids of each.
            sequences: Whose they are.
            count: Of how many tokens of each to return the logits.
            exact: Whether they are needed in float32, whatever the sequences need.
            shared: What the model returned for the tokens before; replaced by what it returns
                now. None to run without a cache.
        """
        base = self.base
        device = base.device
        base.lora.set_active([sequence.adapter for sequence in sequences])
        width = max(map(len, texts))
        ends = torch.arange(1, len(texts) + 1, device=device) * width  # of each row
        base.lm_head.rows = (ends[:, None] + torch.arange(-count, 0, device=device)).flatten()
        needs = [exact or sequence.needs_logprobs for sequence in sequences]
        rows = range(len(needs) * count)
        base.lm_head.exact_rows = [row for row in rows if needs[row // count]]
        padding = base.start_token_id
        options: dict[str, Any] = {}
        if shared is not None:
            options = self._places(shared, width) | shared.values
        output = base.model(
            input_ids=torch.tensor(
                [[padding] * (width - len(text)) + text for text in texts], device=device
            ),
            use_cache=shared is not None,
            **options,
        )
        if shared is not None:
            shared.values.update(returned_cache(output))
        logits: Tensor = output.logits
        hidden = base.lm_head.hidden
        assert hidden is not None  # noqa: S101 - for the type checker
        return NextTokenLogits(logits.reshape(-1, logits.shape[-1]), hidden)

    def _places(self, shared: SharedCache, width: int) -> dict[str, Any]:
        """Return where the next tokens stand and what they may see, where there is padding."""
        if shared.mask is None:
            return {}
        if shared.values:  # (B, T) of the tokens before
            more = shared.mask.new_ones(shared.size, width)
            shared.mask = torch.cat([shared.mask, more], dim=1)
        places: dict[str, Any] = {"attention_mask": shared.mask}
        if "position_ids" in signature(self.base.model.forward).parameters:
            positions = (shared.mask.cumsum(-1) - 1).clamp(min=0)
            places["position_ids"] = positions[:, -width:]
        return places


def _mask(texts: list[list[int]], device: torch.device) -> Tensor | None:
    """Return 1 at tokens and 0 at the padding on the left, (B, T); None without padding."""
    lengths = torch.tensor([len(text) for text in texts], device=device)
    width = int(lengths.max())
    if int(lengths.min()) == width:
        return None
    return (torch.arange(width, device=device) >= (width - lengths)[:, None]).long()


def _rows(logits: NextTokenLogits) -> list[NextTokenLogits]:
    """Return the logits of each row alone."""
    return [logits.select([row]) for row in range(logits.values.shape[0])]


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
