"""What a training does differently when several processes share each batch.

Every process takes its shard of a batch; gradients and metrics are summed over all of them,
so a step equals the step of one process but for the order in which numbers are added. Each
holds the whole model, or its part of one that is sharded (`sharding`). Rank 0 is the leader: it
alone writes files, but for checkpoints of a sharded model, and it decides whatever depends on a
clock or on the outside. Without an initialised `torch.distributed` process group these functions
do nothing.
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

__all__ = [
    "broadcast",
    "count",
    "even_shard",
    "gather",
    "is_leader",
    "rank",
    "run_on_leader",
    "shard",
    "shards",
    "sum_array",
    "sum_fields",
    "sum_gradients",
    "sum_tensor",
]

T = TypeVar("T")


def is_leader() -> bool:
    """Return whether this process writes the files."""
    return rank() == 0


def count() -> int:
    """Return how many processes share each batch."""
    return distributed.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """Return this process's number; 0 is the leader's."""
    return distributed.get_rank() if _is_distributed() else 0


def shards(items: Sequence[T]) -> list[Sequence[T]]:
    """Return each process's part of a batch; parts differ by at most one, and may be empty."""
    return [items[start :: count()] for start in range(count())]


def shard(items: Sequence[T]) -> Sequence[T]:
    """Return this process's part of a batch."""
    return shards(items)[rank()]


def even_shard(items: Sequence[T]) -> list[T | None]:
    """Return this process's part of a batch, filled with None to the length of the longest."""
    own = shard(items)
    return [*own, *[None] * (len(shards(items)[0]) - len(own))]


def broadcast(value: T) -> T:
    """Return the leader's value."""
    if not _is_distributed():
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    return cast("T", values[0])


def gather(value: T) -> list[T]:
    """Return every process's value."""
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def run_on_leader(work: Callable[[], T]) -> T:
    """Return the result of `work` in the leading process; the others wait for it."""
    return broadcast(work() if is_leader() else cast("T", None))


def sum_array(values: NDArray[Any]) -> None:
    """Replace an array by its sum over all processes."""
    if _is_distributed():
        distributed.all_reduce(torch.from_numpy(values))


def sum_tensor(value: torch.Tensor) -> torch.Tensor:
    """Replace a tensor by its sum over all processes, and return it."""
    if _is_distributed():
        distributed.all_reduce(value)
    return value


def sum_fields(record: Any) -> None:
    """Replace each number of a dataclass, nested dataclasses included, by its sum."""
    if not _is_distributed():
        return
    numbers = list(_number_fields(record))
    values = torch.tensor([getattr(owner, name) for owner, name in numbers], dtype=torch.float64)
    distributed.all_reduce(values)
    for (owner, name), value in zip(numbers, values.tolist(), strict=True):
        setattr(owner, name, type(getattr(owner, name))(value))


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum; a process that had no examples contributes zeros."""
    if not _is_distributed():
        return
    kept = list(parameters)
    for parameter in kept:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [cast("torch.Tensor", parameter.grad) for parameter in kept]
    joined = torch.cat([gradient.flatten() for gradient in gradients])  # one message, not many
    distributed.all_reduce(joined)
    start = 0
    for gradient in gradients:
        gradient.copy_(joined[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _number_fields(record: Any) -> Iterator[tuple[Any, str]]:
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            yield from _number_fields(value)
        else:
            yield record, field.name
