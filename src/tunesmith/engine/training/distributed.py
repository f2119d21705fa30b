"""What a training does differently when several processes share each batch.

Every process holds the whole model and takes its share of a batch; gradients and figures
are added up over all of them, so a step is the step of one process but for the order
in which numbers are added. The first process leads: it alone writes files, and what
depends on a clock or on the outside is decided by it. Without an initialised
`torch.distributed` process group all of this is nothing.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

__all__ = ["add_counts", "add_gradients", "add_up", "agree", "by_leader", "leads", "share"]

T = TypeVar("T")


def leads() -> bool:
    """Return whether this process writes the files."""
    return not _together() or distributed.get_rank() == 0


def share(numbers: Sequence[int]) -> Sequence[int]:
    """Return this process's part of a batch; parts are of like size, perhaps empty."""
    if not _together():
        return numbers
    return numbers[distributed.get_rank() :: distributed.get_world_size()]


def agree(value: T) -> T:
    """Return the leader's value."""
    if not _together():
        return value
    said: list[Any] = [value]
    distributed.broadcast_object_list(said, src=0)
    return cast("T", said[0])


def by_leader(work: Callable[[], T]) -> T:
    """Return what `work` gives in the leading process; the others wait for it."""
    return agree(work() if leads() else cast("T", None))


def add_up(values: NDArray[Any]) -> None:
    """Replace an array by its sum over all processes."""
    if _together():
        distributed.all_reduce(torch.from_numpy(values))


def add_counts(record: Any) -> None:
    """Replace each number of a dataclass, and of dataclasses in it, by its sum."""
    if not _together():
        return
    places = list(_places(record))
    values = torch.tensor([getattr(owner, name) for owner, name in places], dtype=torch.float64)
    distributed.all_reduce(values)
    for (owner, name), value in zip(places, values.tolist(), strict=True):
        setattr(owner, name, type(getattr(owner, name))(value))


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum; a process that had no examples adds nothing."""
    if not _together():
        return
    kept = list(parameters)
    for parameter in kept:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [cast("torch.Tensor", parameter.grad) for parameter in kept]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(joined)
    start = 0
    for gradient in gradients:
        gradient.copy_(joined[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _places(record: Any) -> Iterator[tuple[Any, str]]:
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            yield from _places(value)
        else:
            yield record, field.name
