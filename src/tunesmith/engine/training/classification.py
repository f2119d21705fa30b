"""The classes of a job: its different completions, and what cannot be told apart.

A class is a completion, whatever number of tokens it takes. Two classes can be told apart if
neither's tokens begin with all of the other's; a stop sequence at the end of each sees to that.
Knows no model: it runs before a job is queued, and again when the job's data has been read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from tunesmith.engine.domain.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .examples import Example
    from .spec import TrainingSpec

__all__ = ["MAX_CLASSES", "Classes", "check_classes", "find_classes"]

MAX_CLASSES = 10_000
_LISTED = 10
_TWO = 2


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a job.

    Attributes:
        names: The completions, sorted.
        tokens: The token ids of each.
        actual: Class index of each validation example.
        positive: Index of the positive class; None for multiclass metrics.
        betas: F scores to compute.
    """

    names: Sequence[str]
    tokens: Sequence[tuple[int, ...]]
    actual: Sequence[int]
    positive: int | None
    betas: Sequence[float]

    def __len__(self) -> int:
        return len(self.names)

    def advice(self) -> str:
        """Return how to ask for a class in one request, for the user."""
        lengths = {len(tokens) for tokens in self.tokens}
        longest = max(lengths)
        plural = "" if longest == 1 else "s"
        if len(lengths) == 1:
            return (
                f"Each of the {len(self)} classes takes {longest} token{plural}: a completion "
                f"request with max_tokens={longest} and temperature=0 returns one."
            )
        found = f"The {len(self)} classes take {min(lengths)} to {longest} tokens"
        if len({tokens[-1] for tokens in self.tokens}) == 1:
            return (
                f"{found}, the stop sequence included: a completion request with "
                f"max_tokens={longest}, temperature=0 and the stop sequence returns one."
            )
        return (
            f"{found}, and nothing marks their end: after max_tokens={longest} an answer begins "
            "with its class. With a stop sequence at the end of every completion it would be the "
            "class alone."
        )


def find_classes(
    spec: TrainingSpec, train: Sequence[Example], validation: Sequence[Example], tokenizer: Any
) -> Classes | None:
    """Return the job's classes; None if it computes no classification metrics.

    Raises:
        TrainingError: The completions are not the classes that the job names, or two of
            them cannot be told apart.
    """
    if not spec.compute_classification_metrics:
        return None
    if not validation:
        _refuse("Classification metrics need a validation file.")
    tokens = {
        example.completion: tuple(example.tokens[example.scored].tolist())
        for example in (*train, *validation)
    }
    positive = check_classes(
        tokens,
        n_classes=spec.classification_n_classes,
        positive_class=spec.classification_positive_class,
        decode=tokenizer.decode,
    )
    names = sorted(tokens)
    index = {name: i for i, name in enumerate(names)}
    return Classes(
        names,
        [tokens[name] for name in names],
        [index[example.completion] for example in validation],
        positive,
        spec.classification_betas or [1.0],
    )


def check_classes(
    tokens: Mapping[str, Sequence[int]],
    *,
    n_classes: int | None,
    positive_class: str | None,
    decode: Any,
) -> int | None:
    """Check that completions can be the classes of a job.

    Args:
        tokens: The token ids of each different completion; "" stands for chats.
        n_classes: The number of classes that the job names.
        positive_class: The positive one of two classes that the job names.
        decode: Returns the text of a list of token ids.

    Returns:
        Index of the positive class among the sorted completions; None for several classes.

    Raises:
        TrainingError: The completions are not the classes that the job names, or two of
            them cannot be told apart.
    """
    if "" in tokens:
        _refuse("Classification metrics need prompt-completion rows, not chats.")
    names = sorted(tokens)
    positive = _positive_class(names, n_classes, positive_class)
    _check_difference(tokens, decode)
    return positive


def _check_difference(tokens: Mapping[str, Sequence[int]], decode: Any) -> None:
    # In the order of their tokens, a class stands right before those that begin with it.
    ordered = sorted(tokens, key=lambda name: (tuple(tokens[name]), name))
    for name, following in pairwise(ordered):
        first, second = list(tokens[name]), list(tokens[following])
        if first == second:
            _refuse(
                f"The classes {name!r} and {following!r} are the same tokens for this base model, "
                f"{decode(first)!r}. Choose other names."
            )
        if second[: len(first)] == first:
            _refuse(
                f"The tokens of the class {following!r} begin with those of {name!r}, so that an "
                f"answer does not tell where {name!r} ends. End every completion with the same "
                "stop sequence, such as a line break, or give numbers equally many digits."
            )


def _positive_class(names: Sequence[str], n_classes: int | None, wanted: str | None) -> int | None:
    if wanted is None:
        if n_classes is None:
            _refuse(
                "Classification metrics need classification_n_classes (several classes) or "
                "classification_positive_class (two classes)."
            )
        if n_classes != len(names):
            _refuse(
                f"classification_n_classes is {n_classes}, but the files have "
                f"{_count(names)} different completions: {_listed(names)}."
            )
        return None
    if len(names) != _TWO:
        _refuse(
            "classification_positive_class is for two classes, but the files have "
            f"{_count(names)} different completions: {_listed(names)}."
        )
    for key in (str, str.strip):
        matches = [i for i, name in enumerate(names) if key(name) == key(wanted)]
        if matches:
            return matches[0]
    return _refuse(f"No completion is the positive class {wanted!r}; there are {_listed(names)}.")


def _count(names: Sequence[str]) -> str:
    return f"more than {MAX_CLASSES:,}" if len(names) > MAX_CLASSES else str(len(names))


def _listed(names: Iterable[str]) -> str:
    found = [repr(name if len(name) <= 60 else f"{name[:60]}…") for name in names]  # noqa: PLR2004
    return ", ".join(found[:_LISTED]) + (", …" if len(found) > _LISTED else "")


def _refuse(message: str) -> NoReturn:
    raise TrainingError(message, "invalid_hyperparameters")
