"""Which class a model predicts for each validation example.

The tokens of all classes are the paths of a tree. Where classes continue differently, the
tree has a branch; the probability of a continuation is that of its token among the tokens
that the branch has. The probability of a class is the product over the branches on its path.
So the probabilities of all classes add up to 1, tokens that all classes share do not count,
and where the first tokens all differ, they alone decide.

The pass over the validation data, which has the right completion after each prompt, covers
the branches on that completion's path. Others are computed only where the most likely class
depends on them, which is seldom. Knows no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import binary_metrics, multiclass_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .classification import Classes

__all__ = ["Branch", "ClassScores", "ClassTree"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A place at which classes continue differently.

    Attributes:
        prefix: The tokens before it, which the classes beyond it share.
        tokens: Indices into `ClassTree.tokens` of the continuations.
        first_edge: Index of its first continuation among those of all branches.
        classes: Indices of the classes of each continuation.
    """

    prefix: tuple[int, ...]
    tokens: NDArray[np.intp]
    first_edge: int
    classes: Sequence[NDArray[np.intp]]

    @property
    def edges(self) -> slice:
        """The continuations, among those of all branches."""
        return slice(self.first_edge, self.first_edge + len(self.tokens))


class ClassTree:
    """The tree of the classes' tokens.

    Args:
        classes: Token ids of each class; none begins with another.

    Attributes:
        tokens: The tokens at which a branch continues, each once.
        branches: The branches, those with shorter prefixes first.
        paths: Of each class, the indices of the branches that lead to it, shortest prefix first.
    """

    def __init__(self, classes: Sequence[tuple[int, ...]]) -> None:
        children: dict[tuple[int, ...], dict[int, list[int]]] = {}
        for index, tokens in enumerate(classes):
            for length, token in enumerate(tokens):
                children.setdefault(tokens[:length], {}).setdefault(token, []).append(index)
        forks = sorted((p for p, found in children.items() if len(found) > 1), key=len)
        self.tokens: list[int] = sorted({token for prefix in forks for token in children[prefix]})
        column = {token: i for i, token in enumerate(self.tokens)}
        self.branches: list[Branch] = []
        self.paths: list[list[int]] = [[] for _ in classes]
        edges = 0
        for prefix in forks:
            found = children[prefix]
            members = [np.array(group, np.intp) for group in found.values()]
            columns = np.array([column[token] for token in found], np.intp)
            for group in members:
                for index in group:
                    self.paths[index].append(len(self.branches))
            self.branches.append(Branch(prefix, columns, edges, members))
            edges += len(found)
        self.edge_count: int = edges


class ClassScores:
    """Collects the logits at branches, until it is certain which class is the most likely.

    Args:
        tree: The tree of the classes.
        examples: Number of validation examples.
    """

    def __init__(self, tree: ClassTree, examples: int) -> None:
        self._tree = tree
        self._logits = np.zeros((examples, tree.edge_count), np.float32)
        self._known = np.zeros((examples, len(tree.branches)), np.float32)

    @property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What was collected, to be added up over the processes that share the examples."""
        return self._logits, self._known

    def add(self, example: int, branch: int, logits: NDArray[np.float32]) -> None:
        """Add the logits at a branch.

        Args:
            example: Index of the example.
            branch: Index of the branch.
            logits: Logits of `ClassTree.tokens` after the prompt and the branch's prefix,
                shape (tokens,).
        """
        found = self._tree.branches[branch]
        self._logits[example, found.edges] = logits[found.tokens]
        self._known[example, branch] = 1.0

    def missing(self) -> list[tuple[int, int]]:
        """Return the examples whose most likely class is uncertain, each with a branch to add.

        An unknown branch takes nothing off a class, so a class can only turn out less likely
        than it seems. The most likely one is certain once its own branches are known.
        """
        needed = []
        for example, best in enumerate(self._log_probabilities().argmax(axis=1)):
            path = self._tree.paths[best]
            unknown = next((b for b in path if not self._known[example, b]), None)
            if unknown is not None:
                needed.append((example, unknown))
        return needed

    def metrics(self, classes: Classes) -> dict[str, float]:
        """Return the metrics; `missing` must have returned nothing."""
        actual = np.array(classes.actual)
        scores = self._log_probabilities()
        if classes.positive is None:
            return multiclass_metrics(actual, scores.argmax(axis=1))
        probability = np.exp(scores[:, classes.positive])
        return binary_metrics(actual == classes.positive, probability, classes.betas)

    def _log_probabilities(self) -> NDArray[np.float64]:
        """Return those of the known branches, shape (examples, classes)."""
        scores = np.zeros((len(self._logits), len(self._tree.paths)))
        for branch, log_softmax in self._branches():
            for edge, group in enumerate(branch.classes):
                scores[:, group] += log_softmax[:, edge, None]
        return scores

    def _branches(self) -> Iterator[tuple[Branch, NDArray[Any]]]:
        """Yield each branch with its log probabilities, shape (examples, continuations)."""
        for index, branch in enumerate(self._tree.branches):
            logits = self._logits[:, branch.edges].astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            yield branch, logits * self._known[:, index, None]
