"""Continuous batching on one base model: sequences join and leave between forward passes.

Each step first prefills waiting prompts, at most a budget of tokens, so that long prompts do
not stall the sequences that are being decoded; then it decodes one token for each running
sequence. Running sequences occupy the cache's first slots, in order; a sequence that is
prefilled in several chunks occupies the slot behind them. When the cache would outgrow its
budget, the youngest sequence is preempted and computed again later.

The scheduler decides what runs; `model_runner` computes it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from .input_processor import tokenize_prompts
from .kv_cache import create_kv_cache
from .model_runner import ModelRunner
from .output_processor import process_output
from .sequence import SequenceGroup
from .structured_output import compile_grammar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from .generation import GenerationDelta, GenerationRequest
    from .kv_cache import KVCache
    from .lora import LoraAdapter
    from .model_loader import LoadedBase
    from .sequence import Sequence

__all__ = ["Scheduler", "SchedulerLimits", "create_sequence_group"]

SCORED_CHUNK = 256  # prompt positions scored at a time: a float32 row of logits for each


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """How much a scheduler runs at a time.

    Attributes:
        max_sequences: Most sequences running at a time.
        max_prefill_tokens: Most prompt tokens prefilled in one step, padding included.
        cache_bytes: Most bytes of keys and values; a single sequence may exceed it.
    """

    max_sequences: int = 32
    max_prefill_tokens: int = 512
    cache_bytes: int = 2 << 30


def create_sequence_group(
    request_id: int, request: GenerationRequest, base: LoadedBase, adapter: LoraAdapter | None
) -> SequenceGroup:
    """Return the sequences that answer a request, none of them started.

    Raises:
        GenerationError: The prompts cannot be tokenised, do not fit the context, or are to be
            answered in a form that cannot be expressed.
    """
    prompts = tokenize_prompts(base, request)
    grammar = compile_grammar(base, request)
    return SequenceGroup(request_id, request, base, prompts, adapter=adapter, grammar=grammar)


@dataclass(slots=True)
class Scheduler:
    """The sequences that one base model generates, and those that wait for it.

    Attributes:
        waiting: Sequences without keys and values in the cache, next first.
        running: Sequences being decoded; each one's slot in the cache is its position here.
        prefilling: The sequence whose prompt is prefilled in chunks, if there is one.
    """

    base: LoadedBase
    limits: SchedulerLimits
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    prefilling: Sequence | None = None
    _cache: KVCache = field(init=False)
    _runner: ModelRunner = field(init=False)

    def __post_init__(self) -> None:
        self._cache = create_kv_cache(self.base.config, self.base.dtype, self.limits.cache_bytes)
        self._runner = ModelRunner(self.base, self._cache)

    @property
    def busy(self) -> bool:
        """True while any sequence runs or waits."""
        return bool(self.running or self.waiting or self.prefilling)

    @property
    def request_ids(self) -> set[int]:
        """The requests that have sequences here."""
        sequences = [*self.running, *self.waiting]
        if self.prefilling is not None:
            sequences.append(self.prefilling)
        return {sequence.group.request_id for sequence in sequences}

    def add(self, group: SequenceGroup) -> Iterator[GenerationDelta]:
        """Add a request's sequences; yield the deltas of those that need no computation."""
        for parent in group.parents():
            if parent.max_tokens > 0 or parent.needs_prompt_logprobs:
                self.waiting.append(parent)
                continue
            for sequence in [parent, *parent.forks]:
                sequence.finish_reason = "length"
                yield from process_output(sequence)

    def abort(self, request_id: int) -> None:
        """Remove a request's sequences."""
        self.waiting = deque(s for s in self.waiting if s.group.request_id != request_id)
        if self.prefilling is not None and self.prefilling.group.request_id == request_id:
            self.prefilling = None
        with torch.inference_mode():
            for slot in reversed(range(len(self.running))):
                if self.running[slot].group.request_id == request_id:
                    self._remove(slot)
        self._release()

    def step(self) -> list[tuple[int, GenerationDelta]]:
        """Prefill some prompts and decode one token of each running sequence.

        Returns:
            What is new, as pairs of request id and delta.
        """
        with torch.inference_mode():
            outputs = list(self._prefill())
            if self.running:
                outputs += self._decode()
        self._release()
        return outputs

    # Prefill

    def _prefill(self) -> Iterator[tuple[int, GenerationDelta]]:
        sequences = self._next_to_prefill()
        if not sequences:
            return
        start = sequences[0].num_cached
        length = max(sequence.num_tokens for sequence in sequences) - start
        if len(sequences) == 1:
            length = min(length, self._chunk_length(sequences[0]))
        stop = start + length
        first_slot = len(self.running)
        self._cache.reserve(first_slot + len(sequences), max(stop, self._longest()))
        logits = self._runner.prefill(sequences, first_slot, start, stop)
        complete = [sequence for sequence in sequences if sequence.num_tokens <= stop]
        if not complete:
            self.prefilling = sequences[0]
            return
        self.prefilling = None
        yield from self._start(complete, logits)

    def _next_to_prefill(self) -> list[Sequence]:
        """Return the sequences to prefill: several whole prompts, or one in chunks."""
        if self.prefilling is not None:
            return [self.prefilling]
        sequences: list[Sequence] = []
        widest = 0
        while self.waiting:
            sequence = self.waiting[0]
            widest = max(widest, sequence.num_tokens)
            budget = self.limits.max_prefill_tokens
            alone = sequence.needs_prompt_logprobs or sequence.num_tokens > budget
            over_budget = alone or (len(sequences) + 1) * widest > budget
            count = len(self.running) + len(sequences)
            if (sequences and over_budget) or (
                count and not self._can_allocate(count + 1, widest + 1)
            ):
                break
            sequences.append(self.waiting.popleft())
            if over_budget:
                break
        return sequences

    def _chunk_length(self, sequence: Sequence) -> int:
        if sequence.needs_prompt_logprobs:
            return min(SCORED_CHUNK, self.limits.max_prefill_tokens)
        return self.limits.max_prefill_tokens

    def _start(
        self, sequences: list[Sequence], logits: Tensor
    ) -> Iterator[tuple[int, GenerationDelta]]:
        """Move prefilled sequences to the running ones, and their forks where there is room.

        Args:
            sequences: Sequences whose prompts are complete in the cache.
            logits: Those after the last token of each, (B, V).
        """
        started = list(sequences)
        sources = list(range(len(sequences)))  # of each started sequence, the row of its logits
        self.running += sequences
        for row, parent in enumerate(sequences):
            forks, parent.forks = parent.forks, []
            for fork in forks:
                fork.prompt_logprobs = parent.prompt_logprobs
                fork.num_cached = 0
                if self._can_allocate(len(self.running) + 1, parent.num_tokens + 1):
                    slot = len(self.running)
                    self._cache.reserve(slot + 1, self._longest())
                    self._cache.copy_slot(self.running.index(parent), slot, parent.num_cached)
                    fork.num_cached = parent.num_cached
                    self.running.append(fork)
                    started.append(fork)
                    sources.append(row)
                else:
                    self.waiting.appendleft(fork)
        if len(sources) > len(sequences):
            logits = logits[torch.tensor(sources, device=logits.device)]
        yield from self._append_tokens(started, logits)

    # Decode

    def _decode(self) -> Iterator[tuple[int, GenerationDelta]]:
        while len(self.running) > 1 and not self._cache.can_allocate(
            self._slots(), self._longest() + 1
        ):
            self._preempt()
        sequences = list(self.running)
        self._cache.reserve(self._slots(), self._longest() + 1)
        logits = self._runner.decode(sequences)
        yield from self._append_tokens(sequences, logits)

    def _append_tokens(
        self, sequences: list[Sequence], logits: Tensor
    ) -> Iterator[tuple[int, GenerationDelta]]:
        """Sample each sequence's next token from its row of `logits` (B, V).

        Yields what is new, and removes the sequences that have finished.
        """
        rows = [row for row, sequence in enumerate(sequences) if sequence.max_tokens > 0]
        if rows:
            chosen = logits if len(rows) == len(sequences) else logits[rows]
            sampled = [sequences[row] for row in rows]
            for sequence, (token, logprobs) in zip(
                sampled, self._runner.sample(sampled, chosen.float()), strict=True
            ):
                sequence.append_token(token, logprobs)
        for sequence in sequences:
            if sequence.max_tokens == 0:  # only its prompt was to be scored
                sequence.finish_reason = "length"
            for delta in process_output(sequence):
                yield sequence.group.request_id, delta
        for slot in reversed(range(len(self.running))):
            if self.running[slot].finish_reason is not None:
                self._remove(slot)

    # Cache

    def _slots(self) -> int:
        return len(self.running) + (self.prefilling is not None)

    def _longest(self) -> int:
        sequences = self.running
        if self.prefilling is not None:
            sequences = [*self.running, self.prefilling]
        return max((sequence.num_cached for sequence in sequences), default=0)

    def _can_allocate(self, slots: int, length: int) -> bool:
        return slots <= self.limits.max_sequences and self._cache.can_allocate(
            slots, max(length, self._longest() + 1)
        )

    def _preempt(self) -> None:
        """Send the youngest sequence back to wait; its keys and values are computed again."""
        if self.prefilling is not None:
            sequence, self.prefilling = self.prefilling, None
        else:
            sequence = self.running[-1]
            self._remove(len(self.running) - 1)
        sequence.num_cached = 0
        self.waiting.appendleft(sequence)

    def _remove(self, slot: int) -> None:
        """Remove a running sequence; the last one moves to its slot."""
        last = len(self.running) - 1
        if slot < last:
            self._cache.copy_slot(last, slot, self.running[last].num_cached)
            self.running[slot] = self.running[last]
        self.running.pop()
        if self.prefilling is not None:
            self._cache.copy_slot(last + 1, last, self.prefilling.num_cached)

    def _release(self) -> None:
        """Free the cache's memory once no sequence is left."""
        if not self.busy:
            self._cache.release()
