"""Continuous batching on one base: rows join and leave between two forward passes.

Rows wait, have their prompts read, then run, one token for each at every step. A step
reads at most a budget of prompt tokens, so long prompts do not stall the rows that
run. Running rows occupy the cache's first slots, in order; a row whose prompt is being
read in several parts occupies the slot behind them. When the cache would outgrow its
budget, the youngest row gives its place up and starts again from its tokens later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from .attention_mask import attention_mask
from .input_processor import prompt_tokens
from .kv_cache import SlotCache
from .sampler import choose_tokens, score_tokens
from .sampling_state import TokenScore
from .sequence import Answers
from .structured_output import answer_grammar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from .generation import GenerationDelta, GenerationRequest
    from .lora import Adapter
    from .model_loader import LoadedBase
    from .sequence import Row

__all__ = ["Batch", "BatchLimits", "accept"]

SCORED_PART = 256  # prompt positions scored at a time: a float32 row of logits for each


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much a batch takes on.

    Attributes:
        rows: Most rows at a time.
        prompt_tokens: Most prompt tokens read in one step, padding included.
        cache_bytes: Most bytes of keys and values; one row may exceed it.
    """

    rows: int = 32
    prompt_tokens: int = 512
    cache_bytes: int = 2 << 30


def accept(
    number: int, request: GenerationRequest, base: LoadedBase, adapter: Adapter | None
) -> Answers:
    """Return the answers to be generated for a request that has the number `number`.

    Raises:
        GenerationError: The prompts cannot be tokenised, do not fit the context, or are to be
            answered in a form that cannot be expressed.
    """
    prompts = prompt_tokens(base, request)
    return Answers(
        number, request, base, prompts, adapter=adapter, grammar=answer_grammar(base, request)
    )


@dataclass(slots=True)
class Batch:
    """The rows that one base is answering, and those that wait for it."""

    base: LoadedBase
    limits: BatchLimits
    waiting: deque[Row] = field(default_factory=deque)
    running: list[Row] = field(default_factory=list)
    reading: Row | None = None
    _cache: SlotCache = field(init=False)

    def __post_init__(self) -> None:
        config = self.base.model.config.get_text_config()
        layers = config.num_hidden_layers
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        cell_bytes = 2 * layers * heads * width * self.base.dtype.itemsize
        self._cache = SlotCache(layers, budget=self.limits.cache_bytes // cell_bytes)

    @property
    def busy(self) -> bool:
        """True while any row runs or waits."""
        return bool(self.running or self.waiting or self.reading)

    def add(self, answers: Answers) -> Iterator[GenerationDelta]:
        """Take a request's rows on; yield what can be told at once."""
        for leader in answers.leaders():
            if leader.limit > 0 or leader.wants_prompt_scores:
                self.waiting.append(leader)
                continue
            for row in [leader, *leader.followers]:
                row.finish_reason = "length"
                yield from answers.progress(row)

    def drop(self, request_id: int) -> None:
        """Forget a request's rows."""
        self.waiting = deque(row for row in self.waiting if row.answers.id != request_id)
        if self.reading is not None and self.reading.answers.id == request_id:
            self.reading = None
        with torch.inference_mode():
            for slot in reversed(range(len(self.running))):
                if self.running[slot].answers.id == request_id:
                    self._remove(slot)
        self._rest()

    def step(self) -> list[tuple[int, GenerationDelta]]:
        """Read some prompts and generate one token for each running row; return what is new."""
        with torch.inference_mode():
            told = list(self._read_prompts())
            if self.running:
                told += self._advance()
        self._rest()
        return told

    # Reading prompts

    def _read_prompts(self) -> Iterator[tuple[int, GenerationDelta]]:
        rows = self._next_readers()
        if not rows:
            return
        start = rows[0].cached
        length = max(row.length for row in rows) - start
        if len(rows) == 1:
            length = min(length, self._part(rows[0]))
        stop = start + length
        logits = self._read(rows, start, stop)
        finished = [row for row in rows if row.length <= stop]
        if not finished:
            self.reading = rows[0]
            return
        self.reading = None
        yield from self._start(finished, logits)

    def _next_readers(self) -> list[Row]:
        """Return the rows to read next: several whole prompts, or one that is read in parts."""
        if self.reading is not None:
            return [self.reading]
        rows: list[Row] = []
        widest = 0
        while self.waiting:
            row = self.waiting[0]
            widest = max(widest, row.length)
            alone = row.wants_prompt_scores or row.length > self.limits.prompt_tokens
            crowded = alone or (len(rows) + 1) * widest > self.limits.prompt_tokens
            count = len(self.running) + len(rows)
            if (rows and crowded) or (count and not self._has_room(count + 1, widest + 1)):
                break
            rows.append(self.waiting.popleft())
            if crowded:
                break
        return rows

    def _part(self, row: Row) -> int:
        if row.wants_prompt_scores:
            return min(SCORED_PART, self.limits.prompt_tokens)
        return self.limits.prompt_tokens

    def _read(self, rows: list[Row], start: int, stop: int) -> Tensor:
        """Run the model over `start` to `stop` of each row; return the logits that are needed.

        Those are, for each row that ends in this part, the logits after its last token.
        """
        device = self.base.device
        length = stop - start
        filler = self.base.start_token
        parts = [row.pending(start, stop) for row in rows]
        tokens = torch.tensor(
            [part + [filler] * (length - len(part)) for part in parts], device=device
        )
        scored = rows[0].wants_prompt_scores
        if scored:
            picked = list(range(length))
        else:
            picked = [
                place * length + len(part) - 1
                for place, (row, part) in enumerate(zip(rows, parts, strict=True))
                if row.length <= stop
            ]
        first = len(self.running)
        self._cache.reserve(first + len(rows), max(stop, self._longest()))
        self._cache.fill(first, len(rows), start, length)
        positions = torch.arange(start, stop, device=device).unsqueeze(0)
        exact = scored or any(row.wants_scores for row in rows)
        logits = self._forward(rows, tokens, positions, stop, picked, exact=exact)
        for row in rows:
            row.cached = min(row.length, stop)
        if scored:
            self._score_prompt(rows[0], logits, start)
            logits = logits[-1:]
        return logits

    def _score_prompt(self, row: Row, logits: Tensor, start: int) -> None:
        followers = row.prompt[start + 1 : start + 1 + logits.shape[0]]
        if followers:
            rivals = row.answers.request.logprobs or 0
            row.prompt_scores += score_tokens(logits[: len(followers)], followers, rivals)

    def _start(self, rows: list[Row], logits: Tensor) -> Iterator[tuple[int, GenerationDelta]]:
        """Let rows run whose prompts have been read, and their followers with them."""
        started = list(rows)
        sources = list(range(len(rows)))
        self.running += rows
        for place, row in enumerate(rows):
            followers, row.followers = row.followers, []
            for follower in followers:
                follower.prompt_scores = row.prompt_scores
                follower.cached = 0
                if self._has_room(len(self.running) + 1, row.length + 1):
                    slot = len(self.running)
                    self._cache.reserve(slot + 1, self._longest())
                    self._cache.copy_slot(self.running.index(row), slot, row.cached)
                    follower.cached = row.cached
                    self.running.append(follower)
                    started.append(follower)
                    sources.append(place)
                else:
                    self.waiting.appendleft(follower)
        if len(sources) > len(rows):
            logits = logits[torch.tensor(sources, device=logits.device)]
        yield from self._choose(started, logits)

    # Generating

    def _advance(self) -> Iterator[tuple[int, GenerationDelta]]:
        while len(self.running) > 1 and not self._cache.fits(self._slots(), self._longest() + 1):
            self._give_way()
        rows = list(self.running)
        device = self.base.device
        width = max(row.cached for row in rows) + 1
        self._cache.reserve(self._slots(), self._longest() + 1)
        positions = torch.tensor([row.cached for row in rows], device=device)
        self._cache.advance(positions, width)
        tokens = torch.tensor([[row.tokens[-1]] for row in rows], device=device)
        exact = any(row.wants_scores for row in rows)
        logits = self._forward(rows, tokens, positions.unsqueeze(1), width, None, exact=exact)
        for row in rows:
            row.cached += 1
        yield from self._choose(rows, logits)

    def _choose(self, rows: list[Row], logits: Tensor) -> Iterator[tuple[int, GenerationDelta]]:
        """Choose each row's next token; yield what is new and take ended rows out."""
        places = [place for place, row in enumerate(rows) if row.limit > 0]
        if places:
            chosen = logits if len(places) == len(rows) else logits[places]
            self._extend([rows[place] for place in places], chosen.float())
        for row in rows:
            if row.limit == 0:  # only its prompt was to be scored
                row.finish_reason = "length"
            for delta in row.answers.progress(row):
                yield row.answers.id, delta
        for slot in reversed(range(len(self.running))):
            if self.running[slot].finish_reason is not None:
                self._remove(slot)

    def _extend(self, rows: list[Row], logits: Tensor) -> None:
        """Give each row its next token."""
        for row in rows:
            if row.grammar is not None:
                row.sampler.allowed = row.grammar.allowed()
        chosen = choose_tokens(logits, [row.sampler for row in rows])
        scores = self._scores(rows, logits, chosen)
        for row, token, score in zip(rows, chosen, scores, strict=True):
            row.accept(token, score)

    def _scores(
        self, rows: list[Row], logits: Tensor, chosen: list[int]
    ) -> list[TokenScore | None]:
        places = [place for place, row in enumerate(rows) if row.wants_scores]
        scores: list[TokenScore | None] = [None] * len(rows)
        if places:
            rivals = max(rows[place].answers.request.logprobs or 0 for place in places)
            found = score_tokens(logits[places], [chosen[place] for place in places], rivals)
            for place, score in zip(places, found, strict=True):
                wanted = rows[place].answers.request.logprobs or 0
                scores[place] = TokenScore(score.token, score.logprob, score.top[:wanted])
        return scores

    def _forward(
        self,
        rows: list[Row],
        tokens: Tensor,
        positions: Tensor,
        width: int,
        picked: list[int] | None,
        *,
        exact: bool,
    ) -> Tensor:
        """Run the model; return the logits of the picked positions (of all, with None)."""
        base = self.base
        base.switch.select([row.adapter for row in rows])
        base.head.rows = (
            None if picked is None else torch.tensor(picked, dtype=torch.long, device=base.device)
        )
        base.head.exact = exact
        logits: Tensor = base.model(
            input_ids=tokens,
            position_ids=positions.expand(tokens.shape),
            attention_mask=attention_mask(base.config, positions, width, base.dtype),
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        return logits

    # Room

    def _slots(self) -> int:
        return len(self.running) + (self.reading is not None)

    def _longest(self) -> int:
        rows = [*self.running, self.reading] if self.reading is not None else self.running
        return max((row.cached for row in rows), default=0)

    def _has_room(self, rows: int, length: int) -> bool:
        return rows <= self.limits.rows and self._cache.fits(rows, max(length, self._longest() + 1))

    def _give_way(self) -> None:
        """Send the youngest row back to wait; what was computed of it is computed again."""
        row = self.reading if self.reading is not None else self.running[-1]
        if self.reading is not None:
            self.reading = None
        else:
            self._remove(len(self.running) - 1)
        row.cached = 0
        self.waiting.appendleft(row)

    def _remove(self, slot: int) -> None:
        """Take a running row out; the last one moves to its slot."""
        last = len(self.running) - 1
        if slot < last:
            self._cache.copy_slot(last, slot, self.running[last].cached)
            self.running[slot] = self.running[last]
        self.running.pop()
        if self.reading is not None:
            self._cache.copy_slot(last + 1, last, self.reading.cached)

    def _rest(self) -> None:
        if not self.busy:
            self._cache.release()
