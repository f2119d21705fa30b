"""Query a model with held-out prompts and count its right answers.

There are two counts, because a base model that was never trained on the task does not
answer with a class at all:

- *answer*: the text that the model generates is the class. This is what an application sees.
- *choice*: of the known classes, the right one is the most likely continuation of the
  prompt. This measures what a model knows apart from the form of its answer; guessing
  gives one half for two classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tunesmith.client import Client
    from tunesmith.datasets import PromptFormat
    from tunesmith.types.completions import Completion

__all__ = ["Answer", "Score", "choose", "query", "score"]

# As many alternatives as the API gives.
MAX_LOGPROBS = 5
# Prompts in one request. The API takes more; this keeps each answer's wait short.
BATCH = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one prompt.

    Attributes:
        text: The answer, unchanged.
        label: The answer without leading whitespace, to be compared with a class.
        probabilities: Class → probability, for the classes among the most likely tokens.
    """

    text: str
    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of right answers; the module's docstring defines both.

    Attributes:
        answer: Share of right answers, between 0 and 1.
        choice: Share of right choices, between 0 and 1.
        answers: Number of prompts behind `answer`.
        choices: Number of prompts behind `choice`.
    """

    answer: float
    choice: float
    answers: int
    choices: int


def query(
    client: Client,
    model: str,
    prompts: Sequence[str],
    prompt_format: PromptFormat,
    classes: Sequence[str],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Generate the one token that follows each prompt, with its most likely alternatives.

    Args:
        client: Client of the server.
        model: The model's name.
        prompts: Formatted as in training.
        prompt_format: The format: gives the request's parameters and parses the completions.
        classes: The classes, without whitespace.
        progress: Called with the number of prompts answered so far.
    """
    parameters: dict[str, Any] = prompt_format.inference_parameters(classes=classes)
    parameters["logprobs"] = MAX_LOGPROBS
    answers: list[Answer] = []
    for batch in _batches(prompts):
        completion: Completion = client.completions.create(
            model=model, prompt=list(batch), temperature=0, stream=False, **parameters
        )
        for choice in sorted(completion.choices, key=lambda choice: choice.index):
            top = choice.logprobs.top_logprobs if choice.logprobs else None
            first = (top or [None])[0] or {}
            label = prompt_format.parse_completion(choice.text)
            answers.append(Answer(choice.text, label, _class_probabilities(first, classes)))
        if progress:
            progress(len(answers))
    return answers


def choose(
    client: Client,
    model: str,
    prompts: Sequence[str],
    prompt_format: PromptFormat,
    classes: Sequence[str],
) -> list[str]:
    """Return the class that is the most likely continuation of each prompt.

    Each class is appended to the prompt, and `echo` returns the log probabilities of the
    whole text; this costs several times as much as `query`.
    """
    likelihoods: list[dict[str, float]] = [{} for _ in prompts]
    for name in classes:
        completion = prompt_format.format_completion(name)
        for start in range(0, len(prompts), BATCH):
            batch = [prompt + completion for prompt in prompts[start : start + BATCH]]
            echoed: Completion = client.completions.create(
                model=model, prompt=batch, echo=True, max_tokens=0, logprobs=0
            )
            for choice in echoed.choices:
                index = start + choice.index
                likelihoods[index][name] = _tail(choice.logprobs, len(prompts[index]))
    return [max(found, key=found.__getitem__) for found in likelihoods]


def score(answers: Sequence[str], choices: Sequence[str], labels: Sequence[str]) -> Score:
    """Count the right ones; `choices` may cover only the first of the labels."""
    return Score(
        _share(answers, labels),
        _share(choices, labels[: len(choices)]),
        answers=len(answers),
        choices=len(choices),
    )


def _share(predictions: Sequence[str], labels: Sequence[str]) -> float:
    right = sum(one == label for one, label in zip(predictions, labels, strict=True))
    return right / len(labels)


def _batches(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(prompts), BATCH):
        yield prompts[start : start + BATCH]


def _class_probabilities(logprobs: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Return the classes' probabilities: a token counts for the class that it spells."""
    found: dict[str, float] = {}
    for token, value in logprobs.items():
        if token.strip() in classes:
            name = token.strip()
            found[name] = found.get(name, 0.0) + math.exp(value)
    return found


def _tail(logprobs: Any, offset: int) -> float:
    """Sum the log probabilities of the tokens that begin at or after a character of the text."""
    offsets: list[int] = logprobs.text_offset
    values: list[float | None] = logprobs.token_logprobs
    tokens = zip(offsets, values, strict=True)
    return sum(value for start, value in tokens if start >= offset and value is not None)
