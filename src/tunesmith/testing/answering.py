"""Answers without a model: from a function, from what was learnt, or the prompt's own echo.

A "token" is a word with the whitespace before it. `max_tokens`, `stop`, `n`, `echo`,
`logprobs` and streaming follow the real generator; sampling parameters change nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.engine.serving.generation import (
    GenerationDelta,
    GenerationUsage,
    ScoredToken,
    TokenCandidate,
)
from tunesmith.engine.serving.generation_errors import GenerationError

from .prompt import Prompt
from .training import learnt_answers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from tunesmith.engine.models.servable_model import ServableModel
    from tunesmith.engine.serving.generation import GenerationRequest

    Answer = Callable[[Prompt], str | None]

__all__ = ["SimulatedBackend"]

_TOKEN = re.compile(r"\s*\S+|\s+")
_LIKELY = 0.9


class SimulatedBackend:
    """Stands in for the backend that generates answers.

    Args:
        answer: Asked first, in the server's thread; None from it passes the question on.
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

    async def stop(self) -> None:
        """Do nothing: there is no process."""

    async def generate(
        self, model: ServableModel, request: GenerationRequest
    ) -> AsyncGenerator[GenerationDelta, None]:
        """Yield the pieces of the answer; the last one carries the usage."""
        learnt = learnt_answers(model.adapter_path)
        prompts = _prompts(model, request)
        deltas: list[GenerationDelta] = []
        for number, prompt in enumerate(prompts):
            text = self._text(prompt, learnt)
            for choice in range(request.n):
                index = number * request.n + choice
                deltas += _choice(index, prompt, text, learnt, request)
        read = sum(len(_TOKEN.findall(prompt)) for prompt in prompts)
        written = sum(len(delta.tokens) for delta in deltas)
        written -= read * request.n if request.echo else 0
        for delta in deltas[:-1]:
            yield delta
        last = deltas[-1]
        usage = GenerationUsage(read, written)
        yield GenerationDelta(last.index, last.text, last.tokens, last.finish_reason, usage)

    def _text(self, prompt: Prompt, learnt: dict[str, str]) -> str:
        try:
            given = self.answer(prompt) if self.answer is not None else None
        except GenerationError:
            raise
        except Exception as error:
            raise GenerationError(
                f"The answer function raised {type(error).__name__}: {error}", status=500
            ) from error
        if given is not None:
            return given
        return learnt.get(prompt, str(prompt))


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
    index: int, prompt: Prompt, text: str, learnt: dict[str, str], request: GenerationRequest
) -> Iterator[GenerationDelta]:
    """Yield one choice, whole or word by word."""
    ends = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    words = _TOKEN.findall(text[: min(ends, default=len(text))])
    most = len(words) if request.max_tokens is None else request.max_tokens
    reason = "length" if len(words) > most else "stop"
    tokens = _scored(words[:most], _classes(learnt)[: request.logprobs or 0], len(prompt))
    if request.echo:
        tokens = [*_echoed(prompt), *tokens]
    if not request.stream or not tokens:
        said = "".join(token.text for token in tokens)
        yield GenerationDelta(index, said, tuple(tokens), reason)
        return
    for number, token in enumerate(tokens, start=1):
        ending = reason if number == len(tokens) else None
        yield GenerationDelta(index, token.text, (token,), ending)


def _echoed(prompt: Prompt) -> list[ScoredToken]:
    """Return the prompt's tokens; before the first stands nothing that could predict it."""
    tokens = _scored(_TOKEN.findall(prompt), [], 0)
    first = [replace(token, logprob=None, top=()) for token in tokens[:1]]
    return first + tokens[1:]


def _scored(words: list[str], rivals: list[str], offset: int) -> list[ScoredToken]:
    tokens: list[ScoredToken] = []
    for number, word in enumerate(words):
        others = [rival for rival in rivals if rival != word] if number == 0 else []
        others = others[: max(0, len(rivals) - 1)]
        share = (1 - _LIKELY) / max(1, len(others))
        top = [_candidate(word, _LIKELY), *(_candidate(rival, share) for rival in others)]
        tokens.append(ScoredToken(word, word.encode(), math.log(_LIKELY), offset, tuple(top)))
        offset += len(word)
    return tokens


def _candidate(text: str, probability: float) -> TokenCandidate:
    return TokenCandidate(text, text.encode(), math.log(probability))


def _classes(learnt: dict[str, str]) -> list[str]:
    """Return the first words of learnt answers: of a classifier, its classes."""
    firsts = (_TOKEN.match(answer) for answer in learnt.values())
    return list(dict.fromkeys(found.group() for found in firsts if found))
