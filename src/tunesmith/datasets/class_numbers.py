"""Class labels, what tells them apart, and numbers that can stand for them.

An answer must show where its class ends, so no class may begin with another: a stop sequence
after each sees to that. Many or long classes can be replaced with numbers.
"""

from __future__ import annotations

from itertools import count, islice, pairwise
from typing import TYPE_CHECKING, Final

from . import tokens
from .dataset_errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .tokens import Encoder

__all__ = ["MAX_CLASSES", "beginnings", "number_labels", "sharing_first_token"]

MAX_CLASSES: Final = 500


def number_labels(labels: Iterable[str], encoding: str | Encoder | None = None) -> dict[str, str]:
    """Map each label to a number that is a single token after a space.

    Labels are numbered in alphabetical order, so that the same labels always get the same numbers.

    Raises:
        DatasetError: There are more than 500.
    """
    ordered = sorted(set(labels))
    if len(ordered) > MAX_CLASSES:
        raise DatasetError(
            f"There are {len(ordered):,} classes; at most {MAX_CLASSES} can be numbered. Merge "
            "rare ones."
        )
    encoder = tokens.encoder(encoding or "r50k_base")
    single = (str(number) for number in count() if encoder.count(f" {number}") == 1)
    return dict(zip(ordered, islice(single, len(ordered)), strict=True))


def beginnings(labels: Iterable[str]) -> dict[str, str]:
    """Return the labels that begin another label, each with the next label that it begins."""
    ordered = sorted(set(labels) - {""})
    return {
        label: following for label, following in pairwise(ordered) if following.startswith(label)
    }


def sharing_first_token(
    labels: Iterable[str], leading_whitespace: str = " ", encoding: str | Encoder | None = None
) -> list[str]:
    """Return the labels that begin with the same token as another, in alphabetical order."""
    encoder = tokens.encoder(encoding or "r50k_base")
    by_token: dict[int, list[str]] = {}
    for label in sorted(set(labels)):
        if label:
            by_token.setdefault(encoder.encode(leading_whitespace + label)[0], []).append(label)
    return sorted(label for group in by_token.values() if len(group) > 1 for label in group)
