"""Classification metrics: a class is a completion, recognised by its first token.

The probability of a class is that of its first token among the first tokens of all
classes. So the metrics need one pass over the validation data and no generation, and two
classes must not begin with the same token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tunesmith.engine.domain.errors import TrainingError

from .metrics import binary_metrics, multiclass_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .examples import Example
    from .spec import TrainingSpec

__all__ = ["Classes", "find_classes"]


class Classes:
    """The classes of a job.

    Args:
        names: The completions, sorted.
        tokens: Id of the first token of each.
        actual: Class index of each validation example.
        positive: Index of the positive class; None for multiclass metrics.
        betas: F scores to compute.
    """

    def __init__(
        self,
        names: Sequence[str],
        tokens: Sequence[int],
        actual: Sequence[int],
        positive: int | None,
        betas: Sequence[float],
    ) -> None:
        self.names: list[str] = list(names)
        self.tokens: list[int] = list(tokens)
        self._actual = np.array(actual)
        self._positive = positive
        self._betas = betas

    def __len__(self) -> int:
        return len(self.names)

    def metrics(self, logits: NDArray[np.floating[Any]]) -> dict[str, float]:
        """Return the metrics of the validation examples.

        Args:
            logits: Logits of the classes' tokens, shape (examples, classes).
        """
        if self._positive is None:
            return multiclass_metrics(self._actual, logits.argmax(axis=1))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = exponentials[:, self._positive] / exponentials.sum(axis=1)
        return binary_metrics(self._actual == self._positive, probability, self._betas)


def find_classes(
    spec: TrainingSpec, train: Sequence[Example], validation: Sequence[Example], tokenizer: Any
) -> Classes | None:
    """Return the job's classes; None if it computes no classification metrics.

    Raises:
        TrainingError: The completions are not the classes that the job names, or two of
            them begin with the same token.
    """
    if not spec.compute_classification_metrics:
        return None
    if not validation:
        _refuse("Classification metrics need a validation file.")
    first = {example.completion: int(example.tokens[example.scored][0]) for example in train}
    first |= {example.completion: int(example.tokens[example.scored][0]) for example in validation}
    names = sorted(first)
    if "" in first:
        _refuse("Classification metrics need prompt-completion rows, not chats.")
    _check_first_tokens(first, tokenizer)
    positive = _positive_class(spec, names)
    index = {name: i for i, name in enumerate(names)}
    return Classes(
        names,
        [first[name] for name in names],
        [index[example.completion] for example in validation],
        positive,
        spec.classification_betas or [1.0],
    )


def _check_first_tokens(first: dict[str, int], tokenizer: Any) -> None:
    seen: dict[int, str] = {}
    for name, token in first.items():
        if token in seen:
            _refuse(
                f"The classes {seen[token]!r} and {name!r} begin with the same token, "
                f"{tokenizer.decode([token])!r}, and cannot be told apart by it. Choose class "
                "names whose first tokens differ; for many classes, numbers will do."
            )
        seen[token] = name


def _positive_class(spec: TrainingSpec, names: Sequence[str]) -> int | None:
    listed = ", ".join(repr(name) for name in names[:10]) + (", …" if len(names) > 10 else "")  # noqa: PLR2004
    wanted = spec.classification_positive_class
    if wanted is None:
        if spec.classification_n_classes is None:
            _refuse(
                "Classification metrics need classification_n_classes (several classes) or "
                "classification_positive_class (two classes)."
            )
        if spec.classification_n_classes != len(names):
            _refuse(
                f"classification_n_classes is {spec.classification_n_classes}, but the files have "
                f"{len(names)} different completions: {listed}."
            )
        return None
    if len(names) != 2:  # noqa: PLR2004 - binary means two
        _refuse(
            "classification_positive_class is for two classes, but the files have "
            f"{len(names)} different completions: {listed}."
        )
    for key in (str, str.strip):
        matches = [i for i, name in enumerate(names) if key(name) == key(wanted)]
        if matches:
            return matches[0]
    return _refuse(f"No completion is the positive class {wanted!r}; there are {listed}.")


def _refuse(message: str) -> NoReturn:
    raise TrainingError(message, "invalid_hyperparameters")
