"""One request while it is answered: its rows, their text, and what is told of them when.

A row is one choice being generated. Its token ids are the truth; what the cache holds
of it can be dropped and computed again at any time. `Answers` knows the rows of one
request and turns what they generate into deltas: piece by piece for a stream, choice
by choice otherwise, and the best choices of each prompt for `best_of`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .detokenizer import AnswerText, token_label
from .generation import GenerationDelta, GenerationUsage, ScoredToken, TokenCandidate
from .generation_errors import GenerationError
from .input_processor import check_context
from .sampling_state import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .generation import GenerationRequest
    from .input_processor import Vocabulary
    from .lora import Adapter
    from .sampling_state import TokenScore
    from .structured_output import AnswerGrammar

__all__ = ["Answers", "Row"]


@dataclass(slots=True, eq=False)
class Row:
    """One choice being generated.

    Attributes:
        prompt_index: The prompt that it answers.
        limit: Most tokens to generate.
        cached: How many of its tokens the cache holds.
        followers: Rows of the same prompt that wait for this one's prompt to be read.
        prompt_scores: Scores of the prompt's tokens from the second on, with `echo`.
    """

    answers: Answers
    prompt_index: int
    prompt: list[int]
    limit: int
    sampler: Sampler
    text: AnswerText
    adapter: Adapter | None
    tokens: list[int] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    prompt_scores: list[TokenScore] = field(default_factory=list)
    cached: int = 0
    followers: list[Row] = field(default_factory=list)
    finish_reason: str | None = None
    echoed: bool = False
    grammar: AnswerGrammar | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.prompt) + len(self.tokens)

    @property
    def wants_scores(self) -> bool:
        """True if the log probabilities of generated tokens are needed."""
        request = self.answers.request
        return request.logprobs is not None or request.best_of > request.n

    @property
    def wants_prompt_scores(self) -> bool:
        """True if the prompt's tokens are still to be scored."""
        request = self.answers.request
        return (
            request.echo
            and request.logprobs is not None
            and len(self.prompt_scores) < len(self.prompt) - 1
        )

    @property
    def mean_logprob(self) -> float:
        """The mean log probability of the generated tokens, by which `best_of` judges."""
        if not self.scores:
            return 0.0
        return sum(score.logprob for score in self.scores) / len(self.scores)

    def pending(self, start: int, stop: int) -> list[int]:
        """Return the tokens from `start` to `stop`, of prompt and answer joined."""
        end_of_prompt = len(self.prompt)
        return [
            *self.prompt[start:stop],
            *self.tokens[max(0, start - end_of_prompt) : max(0, stop - end_of_prompt)],
        ]

    def accept(self, token: int, score: TokenScore | None) -> None:
        """Add a generated token, and see whether the answer ends with it."""
        base = self.answers.base
        self.tokens.append(token)
        self.sampler.saw(token)
        if score is not None:
            self.scores.append(score)
        if self.grammar is not None:
            self.grammar.advance(token)
        if token in base.end_tokens:
            self.finish_reason = "stop"
            return
        self.text.push(b"" if base.token_bytes.is_special(token) else base.token_bytes[token])
        if self.text.stopped or (self.grammar is not None and self.grammar.complete):
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.limit:
            self.finish_reason = "length"


class Answers:
    """The rows of one request and the deltas that tell of them.

    Args:
        request_id: The request's number on the wire.
        base: What is known of the model that answers.
        prompts: The request's prompts in tokens.
        adapter: What lies on the base, where this process generates.
        grammar: What the answers are held to, where this process generates.

    Raises:
        GenerationError: A prompt does not fit the context.
    """

    def __init__(
        self,
        request_id: int,
        request: GenerationRequest,
        base: Vocabulary,
        prompts: list[list[int]],
        *,
        adapter: Adapter | None = None,
        grammar: AnswerGrammar | None = None,
    ) -> None:
        self.id = request_id
        self.request = request
        self.base = base
        self.prompts = prompts
        self._check_bias()
        self._grammar = grammar
        self.rows: list[Row] = [
            self._row(place, prompt, choice, adapter)
            for place, prompt in enumerate(self.prompts)
            for choice in range(max(request.n, request.best_of))
        ]
        self._unfinished = [max(request.n, request.best_of)] * len(self.prompts)
        self._unreported = len(self.prompts) * request.n
        self._numbers = {row: number for number, row in enumerate(self.rows)}

    def leaders(self) -> list[Row]:
        """Return one row for each prompt, the others as its followers."""
        width = max(self.request.n, self.request.best_of)
        leaders = self.rows[::width]
        for place, leader in enumerate(leaders):
            leader.followers = self.rows[place * width + 1 : (place + 1) * width]
        return leaders

    @property
    def done(self) -> bool:
        """True when every row has finished."""
        return not any(self._unfinished)

    def progress(self, row: Row) -> Iterator[GenerationDelta]:
        """Yield what there is to tell after a row has got a token or has ended."""
        ended = row.finish_reason is not None
        if ended:
            self._unfinished[row.prompt_index] -= 1
        if self.request.best_of > self.request.n:
            if self._unfinished[row.prompt_index] == 0:
                yield from self._best(row.prompt_index)
        elif ended or self.request.stream:
            delta = self._delta(row, self._numbers[row])
            if delta is not None:
                yield delta

    def _best(self, prompt_index: int) -> Iterator[GenerationDelta]:
        """Yield the best rows of a prompt, all of which have finished."""
        rows = [row for row in self.rows if row.prompt_index == prompt_index]
        rows.sort(key=lambda row: row.mean_logprob, reverse=True)
        for place, row in enumerate(rows[: self.request.n]):
            delta = self._delta(row, prompt_index * self.request.n + place)
            if delta is not None:
                yield delta

    def _delta(self, row: Row, number: int) -> GenerationDelta | None:
        ended = row.finish_reason is not None
        text = ""
        tokens: list[ScoredToken] = []
        if self.request.echo and not row.echoed:
            row.echoed = True
            text, tokens = self._echo(row)
        piece = row.text.take(final=ended)
        text += piece.text
        if self.request.logprobs is not None:
            offset = len(self._prompt_text(row))
            tokens += [
                self._scored(row.scores[place], offset + row.text.starts[place])
                for place in piece.tokens
            ]
        if ended:
            self._unreported -= 1
        elif not text and not tokens:
            return None
        return GenerationDelta(
            index=number,
            text=text,
            tokens=tuple(tokens),
            finish_reason=row.finish_reason,
            usage=self._usage() if self._unreported == 0 else None,
        )

    def _usage(self) -> GenerationUsage:
        return GenerationUsage(
            prompt_tokens=sum(map(len, self.prompts)),
            completion_tokens=sum(len(row.tokens) for row in self.rows),
        )

    def _prompt_text(self, row: Row) -> str:
        """Return the prompt as it was given; of token ids, the text that they stand for."""
        if self.request.chat is not None:
            return ""
        prompt = self.request.prompts[row.prompt_index]
        if isinstance(prompt, str):
            return prompt
        return b"".join(self.base.token_bytes[token] for token in prompt).decode("utf-8", "replace")

    def _echo(self, row: Row) -> tuple[str, list[ScoredToken]]:
        text = self._prompt_text(row)
        if self.request.logprobs is None:
            return text, []
        spelled = AnswerText()
        for token in row.prompt:
            spelled.push(self.base.token_bytes[token])
        # A tokenizer may write a space or a start token before the text: offsets leave it out.
        surplus = max(0, len(spelled.text) - len(text))
        first = ScoredToken(
            token_label(self.base.token_bytes[row.prompt[0]]),
            self.base.token_bytes[row.prompt[0]],
            None,
            0,
        )
        rest = [
            self._scored(score, max(0, start - surplus))
            for score, start in zip(row.prompt_scores, spelled.starts[1:], strict=True)
        ]
        return text, [first, *rest]

    def _scored(self, score: TokenScore, offset: int) -> ScoredToken:
        names = self.base.token_bytes
        return ScoredToken(
            text=token_label(names[score.token]),
            data=names[score.token],
            logprob=score.logprob,
            offset=offset,
            top=tuple(
                TokenCandidate(token_label(names[token]), names[token], logprob)
                for token, logprob in score.top
            ),
        )

    def _row(self, place: int, prompt: list[int], choice: int, adapter: Adapter | None) -> Row:
        request = self.request
        seed = None if request.seed is None else f"{request.seed}:{place}:{choice}"
        return Row(
            answers=self,
            prompt_index=place,
            prompt=prompt,
            limit=check_context(self.base, prompt, request.max_tokens),
            sampler=Sampler(
                temperature=request.temperature,
                top_p=request.top_p,
                presence_penalty=request.presence_penalty,
                frequency_penalty=request.frequency_penalty,
                logit_bias=request.logit_bias,
                random=random.Random(seed),  # noqa: S311 - sampling, not secrecy
            ),
            text=AnswerText(stops=request.stop),
            adapter=adapter,
            grammar=None if self._grammar is None else self._grammar.copy(),
        )

    def _check_bias(self) -> None:
        unknown = [t for t in self.request.logit_bias if not 0 <= t < self.base.vocabulary]
        if unknown:
            raise GenerationError(
                f"logit_bias names the token id {unknown[0]}; this model's ids go from 0 to "
                f"{self.base.vocabulary - 1}.",
                param="logit_bias",
            )
