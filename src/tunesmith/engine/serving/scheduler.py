"""Continuous batching on one base model: sequences join and leave between forward passes.

Each step first prefills waiting prompts, at most a budget of tokens, so that long prompts do
not stall the sequences that are being decoded; then it decodes one token for each running
sequence. Running sequences occupy the cache's first slots, in order; a sequence that is
prefilled in several chunks occupies the slot behind them. When the cache would outgrow its
budget, or somebody with a smaller share waits, a sequence is preempted and computed again later.

Every request ends: with its answer, or with the exception that it has met. The scheduler
decides what runs; `model_runner` computes it, `waiting_sequences` says whose turn it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch

from .input_processor import tokenize_prompts
from .output_processor import process_output
from .runners import create_runner
from .sequence import SequenceGroup
from .structured_output import compile_grammar
from .waiting_sequences import WaitingSequences, find_victim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .generation import GenerationDelta, GenerationRequest
    from .loaded_base import LoadedBase
    from .lora import LoraAdapter
    from .model_runner import NextTokenLogits
    from .runners import Runner, SlotCache
    from .sampling_state import Logprobs
    from .sequence import Sequence

__all__ = ["Output", "Scheduler", "SchedulerLimits", "create_sequence_group"]

Output: TypeAlias = "tuple[int, GenerationDelta | Exception]"
"""What is new of a request: its id, and a delta, or the exception that ends it."""

_PASSES_TO_WIDEN = 64

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

    May be called in another thread than the scheduler's.

    Raises:
        GenerationError: The prompts cannot be tokenised, do not fit the context, or are to be
            answered in a form that cannot be expressed.
    """
    with base.tokenizer_lock:
        prompts = tokenize_prompts(base, request)
    grammar = compile_grammar(base, request, prompts[0])
    with base.tokenizer_lock:
        return SequenceGroup(request_id, request, base, prompts, adapter=adapter, grammar=grammar)


@dataclass(slots=True)
class Scheduler:
    """The sequences that one base model generates, and those that wait for it.

    Attributes:
        waiting: Sequences without keys and values in the cache.
        running: Sequences being decoded; each one's slot in the cache is its position here.
        prefilling: The sequence whose prompt is prefilled in chunks, if there is one. Its slot is
            the one behind the running ones.
        width: Most sequences running at a time; fewer than the limit after a pass has failed.
    """

    base: LoadedBase
    limits: SchedulerLimits
    waiting: WaitingSequences = field(default_factory=WaitingSequences)
    running: list[Sequence] = field(default_factory=list)
    prefilling: Sequence | None = None
    width: int = field(init=False)
    _groups: dict[int, SequenceGroup] = field(default_factory=dict[int, "SequenceGroup"])
    _passes: int = 0  # without a failure
    _others_turn: bool = False
    _cache: SlotCache = field(init=False)
    _runner: Runner = field(init=False)

    def __post_init__(self) -> None:
        self.width = self.limits.max_sequences
        self._cache, self._runner = create_runner(self.base, self.limits.cache_bytes)

    @property
    def busy(self) -> bool:
        """True while any sequence runs or waits."""
        return bool(self.running or self.waiting or self.prefilling)

    @property
    def request_ids(self) -> set[int]:
        """The requests that have not been answered to their end."""
        return set(self._groups)

    def add(self, group: SequenceGroup) -> Iterator[Output]:
        """Add a request's sequences; yield the deltas of those that need no computation."""
        self._groups[group.request_id] = group
        for parent in group.parents():
            if parent.max_tokens > 0 or parent.needs_prompt_logprobs:
                self.waiting.append(parent)
                continue
            for sequence in [parent, *parent.forks]:
                sequence.finish_reason = "length"
                yield from self._report(sequence)

    def abort(self, request_id: int) -> None:
        """Remove a request's sequences."""
        self._groups.pop(request_id, None)
        self.waiting.remove(request_id)
        if self.prefilling is not None and self.prefilling.group.request_id == request_id:
            self.prefilling = None
        with torch.inference_mode():
            for slot in reversed(range(len(self.running))):
                if self.running[slot].group.request_id == request_id:
                    self._remove(slot)
        self._release()

    def step(self) -> list[Output]:
        """Prefill some prompts and decode one token of each running sequence.

        A request that fails gets its exception, and the others go on: a pass over several
        prompts that fails is repeated for each alone; a pass over all running sequences that
        fails is repeated with half of them, down to one, which then fails.

        Returns:
            What is new, as pairs of request id and delta, or exception.
        """
        with torch.inference_mode():
            outputs = list(self._prefill())
            if self.running:
                outputs += self._decode()
        self._release()
        return outputs

    # Prefill

    def _prefill(self) -> Iterator[Output]:
        sequences = self._next_to_prefill()
        if not sequences:
            return
        start = sequences[0].num_cached
        length = max(sequence.num_tokens for sequence in sequences) - start
        if len(sequences) == 1:
            length = min(length, self._chunk_length(sequences[0]))
        try:
            logits = self._run_prefill(sequences, start, start + length)
        except Exception as error:  # noqa: BLE001 - out of memory, most likely
            yield from self._prefill_failed(sequences, error)
            return
        complete = [sequence for sequence in sequences if sequence.num_tokens <= start + length]
        if not complete:
            self.prefilling = sequences[0]
            return
        if sequences[0] is self.prefilling:
            self.prefilling = None
        yield from self._start(complete, logits)

    def _run_prefill(self, sequences: list[Sequence], start: int, stop: int) -> NextTokenLogits:
        first_slot = len(self.running)
        parked = self.prefilling if self.prefilling is not sequences[0] else None
        slots = first_slot + len(sequences) + (parked is not None)
        self._cache.reserve(slots, max(stop, self._longest()))
        if parked is not None:  # it moves behind the ones that are going to run
            self._cache.copy_slot(first_slot, slots - 1, parked.num_cached)
        return self._runner.prefill(sequences, first_slot, start, stop)

    def _prefill_failed(self, sequences: list[Sequence], error: Exception) -> Iterator[Output]:
        """Fail the request of a single sequence; let several try again, each alone."""
        if self.prefilling is not None and self.prefilling is not sequences[0]:
            self._preempt_prefilling()  # its slot may have been overwritten
        if len(sequences) == 1:
            yield from self._fail(sequences[0], error)
            return
        for sequence in reversed(sequences):
            sequence.num_cached = 0
            sequence.prefill_alone = True
            self.waiting.appendleft(sequence)

    def _next_to_prefill(self) -> list[Sequence]:
        """Return the sequences to prefill: several whole prompts, or one in chunks."""
        if self.prefilling is not None:
            other = self._short_prompt_of_another()
            return [self.prefilling if other is None else other]
        self._make_way()
        sequences: list[Sequence] = []
        widest = 0
        while (sequence := self.waiting.peek([*self.running, *sequences])) is not None:
            widest = max(widest, sequence.num_tokens)
            budget = self.limits.max_prefill_tokens
            alone = self._is_prefilled_alone(sequence)
            over_budget = alone or (len(sequences) + 1) * widest > budget
            count = len(self.running) + len(sequences)
            if (sequences and over_budget) or (
                count and not self._can_allocate(count + 1, widest + 1)
            ):
                break
            self.waiting.pop(sequence)
            sequences.append(sequence)
            if over_budget:
                break
        return sequences

    def _short_prompt_of_another(self) -> Sequence | None:
        """Return a sequence to prefill between two chunks of a long prompt, every other time.

        It belongs to somebody else than the long prompt, and is prefilled in one pass.
        """
        self._others_turn = not self._others_turn
        if not self._others_turn or self.prefilling is None:
            return None
        self._make_way()
        sequence = self.waiting.peek([*self.running, self.prefilling])
        if sequence is None or sequence.owner == self.prefilling.owner:
            return None
        fits = self._can_allocate(self._slots() + 1, sequence.num_tokens + 1)
        if sequence.forks or self._is_prefilled_alone(sequence) or not fits:
            return None
        self.waiting.pop(sequence)
        return sequence

    def _is_prefilled_alone(self, sequence: Sequence) -> bool:
        return (
            sequence.prefill_alone
            or sequence.needs_prompt_logprobs
            or sequence.num_tokens > self.limits.max_prefill_tokens
        )

    def _make_way(self) -> None:
        """Preempt a running sequence if somebody with a smaller share has no place otherwise."""
        candidate = self.waiting.peek(self.running)
        if candidate is None or self._can_allocate(self._slots() + 1, candidate.num_tokens + 1):
            return
        victim = find_victim(candidate, self.running)
        if victim is not None:
            self._remove(self.running.index(victim))
            self._wait_again(victim)

    def _chunk_length(self, sequence: Sequence) -> int:
        if sequence.needs_prompt_logprobs:
            return min(SCORED_CHUNK, self.limits.max_prefill_tokens)
        return self.limits.max_prefill_tokens

    def _start(self, sequences: list[Sequence], logits: NextTokenLogits) -> Iterator[Output]:
        """Move prefilled sequences to the running ones, and their forks where they fit.

        Args:
            sequences: Sequences whose prompts are complete in the cache.
            logits: Those after the last token of each.
        """
        started = list(sequences)
        sources = list(range(len(sequences)))  # of each started sequence, the row of its logits
        self.running += sequences
        for row, parent in enumerate(sequences):
            forks, parent.forks = parent.forks, []
            for fork in forks:
                fork.prompt_logprobs = parent.prompt_logprobs
                fork.num_cached = 0
                if self._start_fork(fork, parent):
                    started.append(fork)
                    sources.append(row)
                else:
                    self.waiting.appendleft(fork)
        if len(sources) > len(sequences):
            logits = logits.select(sources)
        yield from self._append_tokens(started, logits)

    def _start_fork(self, fork: Sequence, parent: Sequence) -> bool:
        """Let a fork run with a copy of its parent's cache; return False where it does not fit."""
        slot = len(self.running)
        if not self._can_allocate(slot + 1, parent.num_tokens + 1):
            return False
        try:
            self._cache.reserve(slot + 1, self._longest())
            self._cache.copy_slot(self.running.index(parent), slot, parent.num_cached)
        except (MemoryError, RuntimeError):
            return False
        fork.num_cached = parent.num_cached
        self.running.append(fork)
        return True

    # Decode

    def _decode(self) -> Iterator[Output]:
        while len(self.running) > 1 and not self._cache.can_allocate(
            self._slots(), self._longest() + 1
        ):
            self._preempt()
        sequences = list(self.running)
        try:
            self._cache.reserve(self._slots(), self._longest() + 1)
            logits = self._runner.decode(sequences)
        except Exception as error:  # noqa: BLE001 - out of memory, most likely
            yield from self._decode_failed(error)
            return
        self._widen()
        yield from self._append_tokens(sequences, logits)

    def _decode_failed(self, error: Exception) -> Iterator[Output]:
        """Go on with half of the running sequences; fail the request of the last one."""
        if self.prefilling is not None:
            self._preempt_prefilling()
        self._passes = 0
        if len(self.running) == 1:
            yield from self._fail(self.running[0], error)
            return
        self.width = len(self.running) // 2
        while len(self.running) > self.width:
            self._preempt()

    def _widen(self) -> None:
        """Run more sequences again, once a number of passes has succeeded."""
        self._passes += 1
        if self.width < self.limits.max_sequences and self._passes >= _PASSES_TO_WIDEN:
            self.width = min(2 * self.width, self.limits.max_sequences)
            self._passes = 0

    def _append_tokens(
        self, sequences: list[Sequence], logits: NextTokenLogits
    ) -> Iterator[Output]:
        """Sample each sequence's next token from its row of `logits`.

        Yields what is new, and removes the sequences that have finished.
        """
        rows = [row for row, sequence in enumerate(sequences) if sequence.max_tokens > 0]
        if rows:
            sampled = [sequences[row] for row in rows]
            try:
                chosen = logits if len(rows) == len(sequences) else logits.select(rows)
                results = self._runner.sample(sampled, chosen)
            except Exception as error:  # noqa: BLE001 - out of memory, most likely
                yield from self._sampling_failed(sampled, error)
                return
            for sequence, result in zip(sampled, results, strict=True):
                yield from self._append_token(sequence, result)
        for sequence in sequences:
            if sequence.group.request_id not in self._groups:  # it has failed
                continue
            if sequence.max_tokens == 0:  # only its prompt was to be scored
                sequence.finish_reason = "length"
            yield from self._report(sequence)
        for slot in reversed(range(len(self.running))):
            if self.running[slot].finish_reason is not None:
                self._remove(slot)

    def _append_token(
        self, sequence: Sequence, result: tuple[int, Logprobs | None] | Exception
    ) -> Iterator[Output]:
        if sequence.group.request_id not in self._groups:
            return
        if isinstance(result, Exception):
            yield from self._fail(sequence, result)
            return
        try:
            sequence.append_token(*result)
        except Exception as error:  # noqa: BLE001 - one sequence must not stop the others
            yield from self._fail(sequence, error)

    def _sampling_failed(self, sequences: list[Sequence], error: Exception) -> Iterator[Output]:
        """Fail the request of a single sequence; let several try again, each alone."""
        if len(sequences) == 1:
            yield from self._fail(sequences[0], error)
            return
        self.width = max(1, len(self.running) // 2)
        self._passes = 0
        for sequence in sequences:
            self._remove(self.running.index(sequence))
            sequence.prefill_alone = True
            self._wait_again(sequence)

    # Requests

    def _report(self, sequence: Sequence) -> Iterator[Output]:
        """Yield what is new of a sequence."""
        group = sequence.group
        try:
            deltas = list(process_output(sequence))
        except Exception as error:  # noqa: BLE001 - one sequence must not stop the others
            yield from self._fail(sequence, error)
            return
        if group.unreported == 0:
            self._groups.pop(group.request_id, None)
        for delta in deltas:
            yield group.request_id, delta

    def _fail(self, sequence: Sequence, error: Exception) -> Iterator[Output]:
        """End the request of a sequence with an exception."""
        request_id = sequence.group.request_id
        if request_id in self._groups:
            self.abort(request_id)
            yield request_id, error

    # Cache

    def _slots(self) -> int:
        return len(self.running) + (self.prefilling is not None)

    def _longest(self) -> int:
        sequences = self.running
        if self.prefilling is not None:
            sequences = [*self.running, self.prefilling]
        return max((sequence.num_cached for sequence in sequences), default=0)

    def _can_allocate(self, slots: int, length: int) -> bool:
        return slots <= self.width and self._cache.can_allocate(
            slots, max(length, self._longest() + 1)
        )

    def _preempt(self) -> None:
        """Send the youngest sequence back to wait; its keys and values are computed again."""
        if self.prefilling is not None:
            self._preempt_prefilling()
            return
        sequence = self.running[-1]
        self._remove(len(self.running) - 1)
        self._wait_again(sequence)

    def _preempt_prefilling(self) -> None:
        sequence, self.prefilling = self.prefilling, None
        if sequence is not None:
            self._wait_again(sequence)

    def _wait_again(self, sequence: Sequence) -> None:
        sequence.num_cached = 0
        if sequence.needs_prompt_logprobs:  # its prompt is scored again from the start
            sequence.prompt_logprobs.clear()
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
            self.width = self.limits.max_sequences
