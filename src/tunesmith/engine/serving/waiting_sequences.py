"""The sequences that wait for a place in the batch, and whose turn it is.

Turns go round by organisation, then by key within an organisation: whoever runs the fewest
sequences comes next, and among equals whoever has waited longest for a turn. So one member's
many requests delay others by one sequence at most. Nothing here knows of the model or the cache.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .sequence import Sequence

__all__ = ["Owner", "WaitingSequences", "find_victim"]

Owner: TypeAlias = "tuple[str, str]"
"""An organisation and a key of it."""


class WaitingSequences:
    """A queue for each owner, and when each had its last turn."""

    def __init__(self) -> None:
        self._queues: dict[Owner, deque[Sequence]] = {}
        self._clock = itertools.count(1)
        self._turns: dict[str | Owner, int] = {}

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def __iter__(self) -> Iterator[Sequence]:
        return itertools.chain.from_iterable(self._queues.values())

    def append(self, sequence: Sequence) -> None:
        """Add a sequence behind those of its owner."""
        self._queues.setdefault(sequence.owner, deque()).append(sequence)

    def appendleft(self, sequence: Sequence) -> None:
        """Add a sequence before those of its owner."""
        self._queues.setdefault(sequence.owner, deque()).appendleft(sequence)

    def peek(self, running: Iterable[Sequence]) -> Sequence | None:
        """Return the next sequence, which stays here, given those that run."""
        by_organization, by_owner = _count(running)
        owners = [owner for owner, queue in self._queues.items() if queue]
        if not owners:
            return None
        first = min(
            owners,
            key=lambda owner: (
                by_organization[owner[0]],
                self._turns.get(owner[0], 0),
                by_owner[owner],
                self._turns.get(owner, 0),
            ),
        )
        return self._queues[first][0]

    def pop(self, sequence: Sequence) -> None:
        """Remove the sequence that `peek` has returned: its owner has had a turn."""
        owner = sequence.owner
        self._queues[owner].popleft()
        self._turns[owner] = self._turns[owner[0]] = next(self._clock)
        if not self._queues[owner]:
            del self._queues[owner]
        if not self._queues:
            self._turns.clear()

    def remove(self, request_id: int) -> None:
        """Remove the sequences of a request."""
        for owner, queue in list(self._queues.items()):
            kept = deque(one for one in queue if one.group.request_id != request_id)
            if kept:
                self._queues[owner] = kept
            else:
                del self._queues[owner]


def find_victim(candidate: Sequence, running: list[Sequence]) -> Sequence | None:
    """Return the running sequence that has to make way for a waiting one, if one has to.

    It belongs to whoever runs so many more sequences that the candidate's owner still does not
    run more than they do afterwards: first by organisation, then by key of the same one. Of
    theirs it is the one that is cheapest to compute again.
    """
    organization = candidate.owner[0]
    by_organization, by_owner = _count(running)
    largest = max(by_organization, key=by_organization.__getitem__, default=organization)
    if by_organization[organization] + 1 >= by_organization[largest]:
        largest = organization
    elsewhere = largest != organization
    owners = {owner: count for owner, count in by_owner.items() if owner[0] == largest}
    greediest = max(owners, key=owners.__getitem__, default=candidate.owner)
    if not elsewhere and by_owner[candidate.owner] + 1 >= by_owner[greediest]:
        return None
    theirs = [sequence for sequence in running if sequence.owner == greediest]
    return min(theirs, key=lambda sequence: sequence.num_tokens)


def _count(sequences: Iterable[Sequence]) -> tuple[Counter[str], Counter[Owner]]:
    owners = Counter(sequence.owner for sequence in sequences)
    organizations: Counter[str] = Counter()
    for (organization, _), count in owners.items():
        organizations[organization] += count
    return organizations, owners
