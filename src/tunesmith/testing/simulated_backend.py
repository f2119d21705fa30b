"""Answers without a model: from a function, from the training data, or an echo of the prompt.

A "token" is a word with the whitespace before it. `max_tokens`, `stop`, `n`, `echo`,
`logprobs` and streaming behave like the real generator; sampling parameters have no effect.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.answer_syntax import THINKING_SYNTAXES, AnswerSyntax
from tunesmith.engine.serving.answer_parser import AnswerParser
from tunesmith.engine.serving.chat_answer import ChatAnswer
from tunesmith.engine.serving.generation import (
    GenerationDelta,
    GenerationUsage,
    TokenLogprob,
    TopLogprob,
)
from tunesmith.engine.serving.generation_errors import GenerationError

from .simulated_training import load_answers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from tunesmith.engine.models.model_info import ServableModel
    from tunesmith.engine.serving.generation import GenerationRequest
    from tunesmith.engine.serving.tool_call_parser import CallDelta

    Answer = Callable[["Prompt"], str | None]

__all__ = ["Prompt", "SimulatedBackend"]

_TOKEN = re.compile(r"\s*\S+|\s+")
# The probability that is reported for each token of an answer.
_PROBABILITY = 0.9


class Prompt(str):
    """The text of a prompt; for a chat, the text of its last message.

    Attributes:
        model: Name of the requested model.
        messages: The whole conversation, as chat templates read it; empty for a completion.
    """

    __slots__ = ("messages", "model")

    model: str
    messages: Sequence[dict[str, Any]]

    def __new__(cls, text: str, model: str, messages: Sequence[dict[str, Any]] = ()) -> Self:
        """Return the text with its attributes."""
        prompt = super().__new__(cls, text)
        prompt.model = model
        prompt.messages = messages
        return prompt


class SimulatedBackend:
    """Replaces the backend that generates answers.

    Args:
        answer: Called first, in the server's thread; returns the answer, or None to answer
            from the training data.
    """

    running = True

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer

    async def load(self, model: ServableModel) -> None:
        """Do nothing: there is nothing to load."""

    async def unload(self, folder: Path) -> None:
        """Do nothing: nothing is loaded."""

    async def loaded(self) -> dict[Path, int]:
        """Return nothing: nothing is loaded."""
        return {}

    async def release_gpu(self) -> None:
        """Do nothing: there is no GPU."""

    async def stop(self) -> None:
        """Do nothing: there is no process."""

    async def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer; the last one carries the usage."""
        answers = load_answers(model.adapter_path)
        prompts = _prompts(model, request)
        deltas: list[GenerationDelta] = []
        for number, prompt in enumerate(prompts):
            text, reasoning, calls = _parts(self._text(prompt, answers), request)
            for choice in range(request.n):
                index = number * request.n + choice
                pieces = list(_choice(index, prompt, text, answers, request))
                pieces[0] = replace(pieces[0], reasoning=reasoning)
                if calls:
                    pieces[-1] = replace(pieces[-1], calls=calls, finish_reason="tool_calls")
                deltas += pieces
        prompt_tokens = sum(len(_TOKEN.findall(prompt)) for prompt in prompts)
        completion_tokens = sum(len(delta.tokens) for delta in deltas)
        completion_tokens -= prompt_tokens * request.n if request.echo else 0
        for delta in deltas[:-1]:
            yield delta
        last = deltas[-1]
        usage = GenerationUsage(prompt_tokens, completion_tokens)
        yield replace(last, usage=usage)

    def _text(self, prompt: Prompt, answers: dict[str, str]) -> str:
        try:
            answer = self.answer(prompt) if self.answer is not None else None
        except GenerationError:
            raise
        except Exception as error:
            raise GenerationError(
                f"The answer function raised {type(error).__name__}: {error}", status=500
            ) from error
        if answer is not None:
            return answer
        return answers.get(prompt, str(prompt))


def _parts(text: str, request: GenerationRequest) -> tuple[str, str, tuple[CallDelta, ...]]:
    """Return what an answer says and thinks, and its calls, between tags as Qwen3 writes them."""
    if request.chat is None:
        return text, "", ()
    functions = {
        tool["function"]["name"]: tool["function"].get("parameters") or {}
        for tool in request.chat.tools or ()
    }
    syntax = AnswerSyntax(THINKING_SYNTAXES["think"], "hermes")
    answer = ChatAnswer(AnswerParser(syntax, functions, parallel=request.chat.parallel_calls))
    answer.append(text.encode("utf-8", "replace"))
    piece = answer.take(final=True)
    return piece.content, piece.reasoning, piece.calls


def _prompts(model: ServableModel, request: GenerationRequest) -> list[Prompt]:
    if request.chat is not None:
        messages = request.chat.messages
        return [Prompt(_content(messages[-1]), model.name, messages)]
    texts = (
        prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
        for prompt in request.prompts
    )
    return [Prompt(text, model.name) for text in texts]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _choice(
    index: int, prompt: Prompt, text: str, answers: dict[str, str], request: GenerationRequest
) -> Iterator[GenerationDelta]:
    """Yield one choice: as a whole, or word by word for a stream."""
    ends = [index for stop in request.stop if (index := text.find(stop)) >= 0]
    words = _TOKEN.findall(text[: min(ends, default=len(text))])
    limit = len(words) if request.max_tokens is None else request.max_tokens
    reason = "length" if len(words) > limit else "stop"
    tokens = _scored(words[:limit], _first_words(answers)[: request.logprobs or 0], len(prompt))
    if request.echo:
        tokens = [*_echoed(prompt), *tokens]
    if not request.stream or not tokens:
        yield GenerationDelta(index, "".join(token.text for token in tokens), tuple(tokens), reason)
        return
    for number, token in enumerate(tokens, start=1):
        ending = reason if number == len(tokens) else None
        yield GenerationDelta(index, token.text, (token,), ending)


def _echoed(prompt: Prompt) -> list[TokenLogprob]:
    """Return the prompt's tokens; the first has no probability, since nothing precedes it."""
    tokens = _scored(_TOKEN.findall(prompt), [], 0)
    first = [replace(token, logprob=None, top=()) for token in tokens[:1]]
    return first + tokens[1:]


def _scored(words: list[str], alternatives: list[str], offset: int) -> list[TokenLogprob]:
    """Return words as tokens with log probabilities; the first has alternatives."""
    tokens: list[TokenLogprob] = []
    for number, word in enumerate(words):
        others = [other for other in alternatives if other != word] if number == 0 else []
        others = others[: max(0, len(alternatives) - 1)]
        share = (1 - _PROBABILITY) / max(1, len(others))
        top = [_candidate(word, _PROBABILITY), *(_candidate(other, share) for other in others)]
        tokens.append(TokenLogprob(word, word.encode(), math.log(_PROBABILITY), offset, tuple(top)))
        offset += len(word)
    return tokens


def _candidate(text: str, probability: float) -> TopLogprob:
    return TopLogprob(text, text.encode(), math.log(probability))


def _first_words(answers: dict[str, str]) -> list[str]:
    """Return the first words of the training data's answers: for a classifier, its classes."""
    firsts = (_TOKEN.match(answer) for answer in answers.values())
    return list(dict.fromkeys(found.group() for found in firsts if found))
