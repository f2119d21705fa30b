"""Forward passes of a base model over a batch of sequences, and sampling from their logits.

Shapes in the comments: B sequences, T tokens of each, V tokens in the vocabulary. What runs
next, and in which slots of the cache, is the scheduler's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .attention_mask import attention_mask
from .sampler import compute_logprobs, sample_tokens
from .sampling_state import Logprobs

if TYPE_CHECKING:
    from torch import Tensor

    from .kv_cache import KVCache
    from .model_loader import LoadedBase
    from .sequence import Sequence

__all__ = ["ModelRunner"]


@dataclass(frozen=True, slots=True)
class ModelRunner:
    """Runs one base model.

    Args:
        base: The model.
        cache: The keys and values of its sequences, with room for the pass to run.
    """

    base: LoadedBase
    cache: KVCache

    def prefill(self, sequences: list[Sequence], first_slot: int, start: int, stop: int) -> Tensor:
        """Compute keys and values of the tokens from `start` to `stop` of each sequence.

        Log probabilities of prompt tokens are stored in a sequence that needs them; such a
        sequence is prefilled alone.

        Args:
            sequences: Each with `start` tokens in the cache.
            first_slot: The cache's slot of the first sequence; the others follow.
            start: Position of the first token to compute.
            stop: Position after the last one; shorter sequences end before it.

        Returns:
            Logits (B', V) after the last token of each of the B' sequences that end by `stop`.
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
        exact = scored or any(sequence.needs_logprobs for sequence in sequences)
        logits = self._forward(sequences, tokens, positions, stop, rows, exact=exact)
        for sequence in sequences:
            sequence.num_cached = min(sequence.num_tokens, stop)
        if scored:
            _append_prompt_logprobs(sequences[0], logits, start)
            logits = logits[-1:]
        return logits

    def decode(self, sequences: list[Sequence]) -> Tensor:
        """Compute keys and values of the last token of each sequence, in the first slots.

        Returns:
            Logits (B, V) of the next tokens.
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
        exact = any(sequence.needs_logprobs for sequence in sequences)
        logits = self._forward(sequences, tokens, positions.unsqueeze(1), width, None, exact=exact)
        for sequence in sequences:
            sequence.num_cached += 1
        return logits

    def sample(
        self, sequences: list[Sequence], logits: Tensor
    ) -> list[tuple[int, Logprobs | None]]:
        """Return the next token of each sequence and, where it needs them, log probabilities.

        Args:
            sequences: B sequences.
            logits: Their logits (B, V), float32.
        """
        for sequence in sequences:
            if sequence.grammar is not None:
                sequence.sampling.allowed = sequence.grammar.allowed_tokens()
        tokens = sample_tokens(logits, [sequence.sampling for sequence in sequences])
        rows = [row for row, sequence in enumerate(sequences) if sequence.needs_logprobs]
        logprobs: list[Logprobs | None] = [None] * len(sequences)
        if rows:
            most = max(sequences[row].group.request.logprobs or 0 for row in rows)
            found = compute_logprobs(logits[rows], [tokens[row] for row in rows], most)
            for row, entry in zip(rows, found, strict=True):
                wanted = sequences[row].group.request.logprobs or 0
                logprobs[row] = Logprobs(entry.token, entry.logprob, entry.top[:wanted])
        return list(zip(tokens, logprobs, strict=True))

    def _forward(
        self,
        sequences: list[Sequence],
        tokens: Tensor,
        positions: Tensor,
        width: int,
        rows: list[int] | None,
        *,
        exact: bool,
    ) -> Tensor:
        """Run the model.

        Args:
            sequences: B sequences, for their adapters.
            tokens: Token ids (B, T).
            positions: Their positions, (B, T) or (1, T).
            width: Number of positions that the pass attends to.
            rows: Which rows of the flattened (B * T) hidden states get logits; None for all.
            exact: Whether to compute the logits in float32.

        Returns:
            Logits (rows, V).
        """
        base = self.base
        base.lora.set_active([sequence.adapter for sequence in sequences])
        base.lm_head.rows = (
            None if rows is None else torch.tensor(rows, dtype=torch.long, device=base.device)
        )
        base.lm_head.exact = exact
        logits: Tensor = base.model(
            input_ids=tokens,
            position_ids=positions.expand(tokens.shape),
            attention_mask=attention_mask(base.config, positions, width, base.dtype),
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        return logits


def _append_prompt_logprobs(sequence: Sequence, logits: Tensor, start: int) -> None:
    """Store the log probabilities of the prompt tokens that follow each row of `logits`."""
    following = sequence.prompt[start + 1 : start + 1 + logits.shape[0]]
    if following:
        most = sequence.group.request.logprobs or 0
        sequence.prompt_logprobs += compute_logprobs(logits[: len(following)], following, most)
