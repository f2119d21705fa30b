"""A request while it is generated: a group of sequences, each one choice of the answer.

A sequence's token ids are the truth; its keys and values in the cache can be dropped and
computed again at any time. Nothing here knows of the model, of batches or of torch, so an
answer that another server generates is accounted for by the same code.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .answer_setup import find_mark_tokens, new_answer
from .detokenizer import IncrementalDetokenizer
from .generation_errors import GenerationError
from .input_processor import find_stop_tokens, max_new_tokens
from .sampling_state import SamplingState

if TYPE_CHECKING:
    from .chat_answer import ChatAnswer
    from .generation import GenerationRequest
    from .lora import LoraAdapter
    from .sampling_state import Logprobs
    from .structured_output import Grammar
    from .vocabulary import Vocabulary

__all__ = ["Sequence", "SequenceGroup"]

_MAX_LOGPROBS = 500_000  # some 40 MB of JSON


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice being generated.

    Attributes:
        index: Its number in the group.
        prompt_index: The number of its prompt in the request.
        prompt: The prompt's token ids.
        max_tokens: Most tokens to generate.
        answer: The parts of its text in a conversation; a completion is nothing but text.
        tokens: The token ids generated so far.
        logprobs: Those of `tokens`, where the request needs them.
        prompt_logprobs: Those of the prompt's tokens from the second on, with `echo`.
        num_cached: How many of its tokens have keys and values in the cache.
        forks: Sequences with the same prompt; they copy this one's cache after its prefill.
        ended_by_token: Whether its last token ended it, and so is no part of the answer.
        echoed: Whether the prompt has been reported, with `echo`.
        prefill_alone: Whether its prompt must not share a pass with others, as one that failed.
    """

    group: SequenceGroup
    index: int
    prompt_index: int
    prompt: list[int]
    max_tokens: int
    sampling: SamplingState
    detokenizer: IncrementalDetokenizer
    adapter: LoraAdapter | None
    answer: ChatAnswer | None = None
    grammar: Grammar | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    prompt_logprobs: list[Logprobs] = field(default_factory=list)
    num_cached: int = 0
    forks: list[Sequence] = field(default_factory=list)
    finish_reason: str | None = None
    ended_by_token: bool = False
    echoed: bool = False
    prefill_alone: bool = False

    @property
    def owner(self) -> tuple[str, str]:
        """The organisation and the key that it is generated for."""
        return self.group.request.organization, self.group.request.key

    @property
    def num_tokens(self) -> int:
        """Number of tokens of prompt and answer so far."""
        return len(self.prompt) + len(self.tokens)

    @property
    def needs_logprobs(self) -> bool:
        """True if the log probabilities of generated tokens are needed."""
        request = self.group.request
        return request.logprobs is not None or request.best_of > request.n

    @property
    def needs_prompt_logprobs(self) -> bool:
        """True if log probabilities of the prompt's tokens are needed and not complete."""
        request = self.group.request
        return (
            request.echo
            and request.logprobs is not None
            and len(self.prompt_logprobs) < len(self.prompt) - 1
        )

    @property
    def mean_logprob(self) -> float:
        """The mean log probability of the generated tokens, by which `best_of` ranks."""
        if not self.logprobs:
            return 0.0
        return sum(entry.logprob for entry in self.logprobs) / len(self.logprobs)

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Return the token ids from `start` to `stop` of prompt and answer joined."""
        end_of_prompt = len(self.prompt)
        return [
            *self.prompt[start:stop],
            *self.tokens[max(0, start - end_of_prompt) : max(0, stop - end_of_prompt)],
        ]

    def append_token(self, token: int, logprobs: Logprobs | None) -> None:
        """Append a generated token; set `finish_reason` if the answer ends with it."""
        vocabulary = self.group.vocabulary
        self.tokens.append(token)
        self.sampling.count(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        if self.grammar is not None:
            self.grammar.accept_token(token)
        if token in vocabulary.eos_token_ids or token in self.group.stop_token_ids:
            self.ended_by_token = True
            self.finish_reason = "stop"
            return
        token_bytes = vocabulary.token_bytes
        is_hidden = token_bytes.is_special(token) and token not in self.group.mark_token_ids
        data = b"" if is_hidden else token_bytes[token]
        if self.answer is None:
            self.detokenizer.append(data)
            is_complete = self.detokenizer.stopped
        else:
            self.answer.append(data)
            is_complete = self.answer.is_complete
        if is_complete or (self.grammar is not None and self.grammar.is_complete):
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.max_tokens:
            self.finish_reason = "length"


class SequenceGroup:
    """The sequences of one request.

    Args:
        request_id: The request's number on the pipe to the worker.
        request: The request.
        vocabulary: That of the model that answers.
        prompts: The request's prompts as token ids.
        adapter: The adapter to apply, where this process generates.
        grammar: The grammar that the answers must follow, where this process generates.

    Attributes:
        sequences: `max(n, best_of)` of each prompt, prompt by prompt.
        unfinished: For each prompt, how many of its sequences are still generated.
        unreported: How many of the choices to return have not been reported to their end.
        mark_token_ids: Special tokens that mark thoughts and calls, and so are read as text.
        stop_token_ids: Tokens that end the answers of this request besides the model's own: that
            which ends a turn in the chat template, and special tokens among the stop sequences.

    Raises:
        GenerationError: A prompt does not fit the context, `logit_bias` names an unknown token,
            or the log probabilities asked for are too many for one answer.
    """

    def __init__(
        self,
        request_id: int,
        request: GenerationRequest,
        vocabulary: Vocabulary,
        prompts: list[list[int]],
        *,
        adapter: LoraAdapter | None = None,
        grammar: Grammar | None = None,
    ) -> None:
        self.request_id = request_id
        self.request = request
        self.vocabulary = vocabulary
        self.prompts = prompts
        _check_logit_bias(request, vocabulary)
        _check_answer_size(request, prompts)
        self.mark_token_ids: frozenset[int] = find_mark_tokens(vocabulary, request)
        width = max(request.n, request.best_of)
        self.sequences: list[Sequence] = [
            self._sequence(prompt_index, choice, adapter, grammar)
            for prompt_index in range(len(prompts))
            for choice in range(width)
        ]
        self.unfinished: list[int] = [width] * len(prompts)
        self.unreported: int = len(prompts) * request.n
        self.stop_token_ids: frozenset[int] = find_stop_tokens(vocabulary, request)

    def parents(self) -> list[Sequence]:
        """Return the first sequence of each prompt, with the others of that prompt as its forks."""
        width = max(self.request.n, self.request.best_of)
        parents = self.sequences[::width]
        for index, parent in enumerate(parents):
            parent.forks = self.sequences[index * width + 1 : (index + 1) * width]
        return parents

    def _sequence(
        self, prompt_index: int, choice: int, adapter: LoraAdapter | None, grammar: Grammar | None
    ) -> Sequence:
        request = self.request
        prompt = self.prompts[prompt_index]
        seed = None if request.seed is None else f"{request.seed}:{prompt_index}:{choice}"
        return Sequence(
            group=self,
            index=prompt_index * max(request.n, request.best_of) + choice,
            prompt_index=prompt_index,
            prompt=prompt,
            max_tokens=max_new_tokens(self.vocabulary, prompt, request.max_tokens),
            sampling=SamplingState(
                temperature=request.temperature,
                top_p=request.top_p,
                presence_penalty=request.presence_penalty,
                frequency_penalty=request.frequency_penalty,
                logit_bias=request.logit_bias,
                random=random.Random(seed),  # noqa: S311 - sampling, not secrecy
            ),
            detokenizer=IncrementalDetokenizer(stops=request.stop),
            adapter=adapter,
            answer=new_answer(self.vocabulary, request, prompt),
            grammar=None if grammar is None else grammar.copy(),
        )


def _check_logit_bias(request: GenerationRequest, vocabulary: Vocabulary) -> None:
    unknown = [token for token in request.logit_bias if not 0 <= token < vocabulary.vocab_size]
    if unknown:
        raise GenerationError(
            f"logit_bias names the token id {unknown[0]}; this model's ids go from 0 to "
            f"{vocabulary.vocab_size - 1}.",
            param="logit_bias",
        )


def _check_answer_size(request: GenerationRequest, prompts: list[list[int]]) -> None:
    """Raise GenerationError if the answer could hold more log probabilities than a response may."""
    if request.logprobs is None:
        return
    tokens = sum(
        (request.max_tokens or 0) + (len(prompt) if request.echo else 0) for prompt in prompts
    )
    entries = tokens * request.n * (1 + request.logprobs)
    if entries > _MAX_LOGPROBS:
        raise GenerationError(
            f"The answer could hold {entries} log probabilities; one response may hold "
            f"{_MAX_LOGPROBS}. Ask for fewer choices, tokens or alternatives, or send several "
            "requests.",
            param="logprobs",
            code="answer_too_large",
        )
