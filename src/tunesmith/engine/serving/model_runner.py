"""Forward passes of a base model over a batch of sequences, and sampling from their logits.

Shapes in the comments: B sequences, T tokens of each, V tokens in the vocabulary. What runs
next, and in which slots of the cache, is the scheduler's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from .attention_mask import attention_mask
from .sampler import compute_logprobs, most_likely, sample_token

if TYPE_CHECKING:
    from torch import Tensor

    from .fused_decoder import FusedDecoder
    from .kv_cache import KVCache
    from .loaded_base import LoadedBase
    from .sampler import Candidates, Rescore
    from .sampling_state import Logprobs
    from .sequence import Sequence

__all__ = ["ModelRunner", "NextTokenLogits", "append_prompt_logprobs", "sample_tokens"]


@dataclass(frozen=True, slots=True)
class NextTokenLogits:
    """The logits of the next token of B sequences, and what they were computed from.

    Attributes:
        values: (B, V), in float32 where a sequence needs log probabilities, else in the precision
            of the model.
        hidden: (B, D).
        bound: The most by which a value may be off, where it is more than rounding.
    """

    values: Tensor
    hidden: Tensor
    bound: float | None = None

    def select(self, rows: list[int]) -> NextTokenLogits:
        """Return those of some rows."""
        index = torch.tensor(rows, device=self.values.device)
        return NextTokenLogits(self.values[index], self.hidden[index], self.bound)


@dataclass(frozen=True, slots=True)
class ModelRunner:
    """Runs one base model.

    Args:
        base: The model.
        cache: The keys and values of its sequences, with room for the pass to run.
    """

    base: LoadedBase
    cache: KVCache

    def prefill(
        self, sequences: list[Sequence], first_slot: int, start: int, stop: int
    ) -> NextTokenLogits:
        """Compute keys and values of the tokens from `start` to `stop` of each sequence.

        Log probabilities of prompt tokens are stored in a sequence that needs them; such a
        sequence is prefilled alone.

        Args:
            sequences: Each with `start` tokens in the cache.
            first_slot: The cache's slot of the first sequence; the others follow.
            start: Position of the first token to compute.
            stop: Position after the last one; shorter sequences end before it.

        Returns:
            Logits after the last token of each of the sequences that end by `stop`.
        """
        device = self.base.device
        length = stop - start
        padding = self.base.start_token_id
        chunks = [sequence.token_ids(start, stop) for sequence in sequences]
        tokens = torch.tensor(  # (B, T)
            [chunk + [padding] * (length - len(chunk)) for chunk in chunks], device=device
        )
        scored = sequences[0].needs_prompt_logprobs
        if scored:
            rows = list(range(length))
        else:
            rows = [
                index * length + len(chunk) - 1
                for index, (sequence, chunk) in enumerate(zip(sequences, chunks, strict=True))
                if sequence.num_tokens <= stop
            ]
        self.cache.prepare_prefill(first_slot, len(sequences), start, length)
        positions = torch.arange(start, stop, device=device).unsqueeze(0)  # (1, T)
        if scored:
            exact_rows = rows
        else:
            ending = [sequence for sequence in sequences if sequence.num_tokens <= stop]
            exact_rows = _rows_with_logprobs(ending)
        logits = self._forward(sequences, tokens, positions, stop, rows, exact_rows=exact_rows)
        for sequence in sequences:
            sequence.num_cached = min(sequence.num_tokens, stop)
        if scored:
            append_prompt_logprobs(sequences[0], logits.values, start)
            logits = logits.select([-1])
        return logits

    def decode(self, sequences: list[Sequence]) -> NextTokenLogits:
        """Compute keys and values of the last token of each sequence, in the first slots.

        Returns:
            Logits of the next tokens.
        """
        device = self.base.device
        width = max(sequence.num_cached for sequence in sequences) + 1
        positions = torch.tensor(  # (B,)
            [sequence.num_cached for sequence in sequences], device=device
        )
        self.cache.prepare_decode(positions, width)
        tokens = torch.tensor(  # (B, 1)
            [[sequence.tokens[-1]] for sequence in sequences], device=device
        )
        exact_rows = _rows_with_logprobs(sequences)
        self.base.lm_head.greedy = not exact_rows and all(
            sequence.sampling.is_greedy for sequence in sequences
        )
        try:
            logits = self._forward(
                sequences, tokens, positions.unsqueeze(1), width, None, exact_rows=exact_rows
            )
        finally:
            self.base.lm_head.greedy = False
        for sequence in sequences:
            sequence.num_cached += 1
        return logits

    def sample(
        self, sequences: list[Sequence], logits: NextTokenLogits
    ) -> list[tuple[int, Logprobs | None] | Exception]:
        """Return the next token of each sequence and, where it needs them, log probabilities.

        A sequence whose token cannot be sampled gets the exception instead, and the others
        their tokens.

        Args:
            sequences: B sequences.
            logits: Of B next tokens.
        """
        return sample_tokens(self.base, sequences, logits)

    def _forward(
        self,
        sequences: list[Sequence],
        tokens: Tensor,
        positions: Tensor,
        width: int,
        rows: list[int] | None,
        *,
        exact_rows: list[int],
    ) -> NextTokenLogits:
        """Run the model.

        Args:
            sequences: B sequences, for their adapters.
            tokens: Token ids (B, T).
            positions: Their positions, (B, T) or (1, T).
            width: Number of positions that the pass attends to.
            rows: Which rows of the flattened (B * T) hidden states get logits; None for all.
            exact_rows: Which of these get their logits in float32.
        """
        base = self.base
        base.lora.set_active([sequence.adapter for sequence in sequences])
        base.lm_head.rows = (
            None if rows is None else torch.tensor(rows, dtype=torch.long, device=base.device)
        )
        base.lm_head.exact_rows = exact_rows
        if base.decoder is not None:
            states = self._run_decoder(base.decoder, tokens, positions, width)
            logits: Tensor = base.lm_head(states)
        else:
            logits = base.model(
                input_ids=tokens,
                position_ids=positions.expand(tokens.shape),
                attention_mask=attention_mask(base.config, positions, width, base.dtype),
                past_key_values=self.cache,
                use_cache=True,
            ).logits
        hidden = base.lm_head.hidden
        assert hidden is not None  # noqa: S101 - for the type checker
        return NextTokenLogits(logits, hidden, base.lm_head.bound)

    def _run_decoder(
        self, decoder: FusedDecoder, tokens: Tensor, positions: Tensor, width: int
    ) -> Tensor:
        """Return the hidden states (B * T, D) of the fused decoder."""
        batch, length = tokens.shape
        mask: Any = None
        if decoder.needs_mask(batch, width - length, length):
            mask = attention_mask(self.base.config, positions, width, self.base.dtype)
        return decoder.forward(tokens, positions, mask, self.cache, self.base.lora)


def sample_tokens(
    base: LoadedBase, sequences: list[Sequence], logits: NextTokenLogits
) -> list[tuple[int, Logprobs | None] | Exception]:
    """Return the next token of each sequence; see `ModelRunner.sample`."""
    is_rounded = base.lm_head.weight.dtype != torch.float32
    values = logits.values.float()
    likeliest = most_likely(values, logits.bound)
    sampled: list[tuple[int, Logprobs | None] | Exception] = []
    for row, sequence in enumerate(sequences):
        hidden = logits.hidden[row]
        rescore = partial(base.lm_head.logits_of, hidden) if is_rounded else None
        try:
            sampled.append(_sample(sequence, values[row], likeliest[row], rescore))
        except Exception as error:  # noqa: BLE001 - one sequence must not stop the others
            sampled.append(error)
    return sampled


def _rows_with_logprobs(sequences: list[Sequence]) -> list[int]:
    return [row for row, sequence in enumerate(sequences) if sequence.needs_logprobs]


def _sample(
    sequence: Sequence, logits: Tensor, likeliest: Candidates, rescore: Rescore | None
) -> tuple[int, Logprobs | None]:
    """Sample one sequence's next token from its logits (V,)."""
    state = sequence.sampling
    if sequence.grammar is not None:
        state.allowed = sequence.grammar.allowed_tokens()
    token = sample_token(logits, state, likeliest, rescore)
    if not sequence.needs_logprobs:
        return token, None
    wanted = sequence.group.request.logprobs or 0
    return token, compute_logprobs(logits.unsqueeze(0), [token], wanted)[0]


def append_prompt_logprobs(sequence: Sequence, logits: Tensor, start: int) -> None:
    """Store the log probabilities of the prompt tokens that follow each row of `logits`."""
    following = sequence.prompt[start + 1 : start + 1 + logits.shape[0]]
    if following:
        most = sequence.group.request.logprobs or 0
        sequence.prompt_logprobs += compute_logprobs(logits[: len(following)], following, most)
