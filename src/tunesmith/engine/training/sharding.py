"""A model whose weights, gradients and optimizer state are spread over several processes.

Each transformer layer is sharded by PyTorch's FSDP2: a process keeps its part of every matrix
and collects the whole layer only while it is computed. What surrounds the layers (embeddings,
last norm, output layer) is needed from the beginning of a pass to its end: where it is frozen
it stays whole; where it is trained it is collected at the first pass of a step and sharded
again before the optimizer changes it. Knows neither steps nor files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from tunesmith.engine.domain.errors import TrainingError

from . import distributed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .split_model import SplitModel

__all__ = ["ShardedModel", "ShardedOptimizer", "whole_tensors"]

_MAX_GRADIENT_NORM = 1.0


class ShardedModel:
    """Shards a model in place, over all processes of the training.

    The weights may lie in memory maps of the model's files: one layer after the other is cast,
    moved to the device and cut to this process's part, so no process ever holds them all.

    Args:
        model: The model, on the processor. What is trained requires gradients, and nothing else.
        trained: What is trained, by any names.
        device: Where this process computes.
        dtype: Precision to cast all weights to; None leaves them as they are.

    Attributes:
        parameters: What is trained now, by the same names, each a `DTensor`.

    Raises:
        TrainingError: PyTorch cannot shard this model.
    """

    def __init__(
        self,
        model: SplitModel,
        trained: Mapping[str, nn.Parameter],
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        mesh = init_device_mesh(device.type, (distributed.count(),))
        whole: nn.Module = model.whole
        places = {parameter: place for place, parameter in whole.named_parameters()}
        trained_places = {name: places[parameter] for name, parameter in trained.items()}
        # Any: `fully_shard` gives a module further methods.
        self._surroundings: Any = _Surroundings(whole, model.layers)
        self._is_collected = any(p.requires_grad for p in self._surroundings.parameters())
        self._surroundings.to(device=device, dtype=dtype)
        root: Any = whole if model.path == "general" else model.decoder
        try:
            for layer in model.layers:
                fully_shard(layer.to(device=device, dtype=dtype), mesh=mesh)
            if self._is_collected:
                fully_shard(self._surroundings, mesh=mesh)
            # The root has no parameters of its own; it lets each layer be collected ahead.
            fully_shard(root, mesh=mesh, ignored_params=set(self._surroundings.parameters()))
        except (NotImplementedError, ValueError, AssertionError) as error:
            msg = (
                "The layers of the base model cannot be spread over several processes: "
                f"{error}. Train it in one process."
            )
            raise TrainingError(msg, "invalid_model") from error
        if hasattr(root, "set_reduce_scatter_unused_params"):  # of experts that no token reached
            root.set_reduce_scatter_unused_params(True)
        if self._is_collected:
            root.register_forward_pre_hook(self._collect)
        for module in whole.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.to(device)  # noqa: SLF001 - no public writer
        model.device = device
        self.parameters: dict[str, nn.Parameter] = {
            name: whole.get_parameter(place) for name, place in trained_places.items()
        }

    @torch.no_grad()
    def reduce_gradients(self) -> None:
        """Sum the gradients of a step over all processes, and shard what was collected for it."""
        # FSDP takes means over the processes, but the loss is a mean over the whole batch already.
        for parameter in self.parameters.values():
            if isinstance(parameter.grad, DTensor):
                parameter.grad.to_local().mul_(distributed.count())
        if not self._is_collected:
            return
        gradients = {}
        for name, parameter in self._surroundings.named_parameters():
            gradients[name] = parameter.grad
            parameter.grad = None
        self._surroundings.reshard()
        for name, parameter in self._surroundings.named_parameters():
            assert isinstance(parameter, DTensor)  # noqa: S101 - sharded again
            gradient = gradients.pop(name)
            if gradient is None:
                gradient = torch.zeros(parameter.shape, device=parameter.device)
            shared = DTensor.from_local(gradient, parameter.device_mesh, [Partial()])
            parameter.grad = shared.redistribute(placements=parameter.placements)

    def reshard(self) -> None:
        """Shard what passes without gradients have collected; every process calls it."""
        if self._is_collected:
            self._surroundings.reshard()

    def _collect(self, *_: Any) -> None:
        self._surroundings.unshard()


class ShardedOptimizer:
    """AdamW with clipped gradients over sharded parameters; see `optimizer`.

    Each process changes its parts as plain tensors: operations on a `DTensor` cost more than
    an adapter's small matrices take to compute.

    Args:
        model: The model, with what is trained.
        weight_decay: The decoupled decay.
    """

    def __init__(self, model: ShardedModel, *, weight_decay: float) -> None:
        self._model = model
        self._parts = {
            name: nn.Parameter(_part(parameter)) for name, parameter in model.parameters.items()
        }
        self._adamw = torch.optim.AdamW(
            self._parts.values(), lr=0.0, weight_decay=weight_decay, fused=True
        )
        for part in self._parts.values():  # here, so that a checkpoint can be read into it
            self._adamw.state[part] = {
                "step": torch.zeros((), device=part.device),
                "exp_avg": torch.zeros_like(part),
                "exp_avg_sq": torch.zeros_like(part),
            }

    def step(self, rate: float) -> None:
        """Change the parameters by their gradients, and clear those.

        Args:
            rate: The learning rate.
        """
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._model.reduce_gradients()
        for name, parameter in self._model.parameters.items():
            if parameter.grad is not None:
                self._parts[name].grad = _part(parameter.grad)
            parameter.grad = None
        parts = list(self._parts.values())
        norm = get_total_norm([part.grad for part in parts if part.grad is not None])
        total = distributed.sum_tensor(norm.square()).sqrt()
        clip_grads_with_norm_(parts, _MAX_GRADIENT_NORM, total)
        self._adamw.step()
        self.clear()

    def clear(self) -> None:
        """Clear the gradients."""
        for tensor in (*self._parts.values(), *self._model.parameters.values()):
            tensor.grad = None

    def state(self) -> dict[str, torch.Tensor]:
        """Return parameters and optimizer state, sharded as they are and not copied."""
        self._model.reshard()
        result: dict[str, torch.Tensor] = {}
        for name, parameter in self._model.parameters.items():
            result[f"parameter/{name}"] = parameter.detach()
            for key, value in self._adamw.state[self._parts[name]].items():
                is_number = value.dim() == 0
                result[f"{key}/{name}"] = value if is_number else _whole(value, parameter)
        return result

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` returned; what was read into its tensors is restored already."""
        for name, value in self.state().items():
            _part(value).copy_(_part(state[name]))


def _part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor, which has the same memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(part: torch.Tensor, like: torch.Tensor) -> DTensor:
    """Return a tensor of which each process has a part, as it has of another one."""
    assert isinstance(like, DTensor)  # noqa: S101 - a sharded parameter
    return DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )


def whole_tensors(
    tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """Return tensors in one piece, in the leading process on the processor; every process calls it.

    Args:
        tensors: What to collect, one after the other; what is not sharded is not copied.
        dtype: Precision to cast numbers to; None leaves it.

    Returns:
        By the same names; in other processes what was sharded is empty.
    """
    result: dict[str, torch.Tensor] = {}
    collected: dict[torch.Tensor, torch.Tensor] = {}  # a tied weight has several names
    for name, value in tensors.items():
        if value not in collected:
            whole = value.detach()
            if dtype is not None and whole.is_floating_point():
                whole = whole.to(dtype)
            if isinstance(whole, DTensor):
                whole = whole.full_tensor()
                whole = whole.cpu() if distributed.is_leader() else whole.new_empty(0)
            collected[value] = whole
        result[name] = collected[value]
    return result


class _Surroundings(nn.Module):
    """The modules with weights around a model's transformer layers.

    Raises:
        TrainingError: One of them is around the layers in the literal sense, too.
    """

    def __init__(self, whole: nn.Module, layers: nn.ModuleList) -> None:
        super().__init__()
        inside = {id(module) for module in layers.modules()}
        self.parts = nn.ModuleList()
        for name, module in whole.named_modules():
            if id(module) in inside or next(module.parameters(recurse=False), None) is None:
                continue
            if any(id(child) in inside for child in module.modules()):
                msg = (
                    "The base model cannot be spread over several processes: its part "
                    f"{name or 'at the top'} has weights beside the layers. Train it in one."
                )
                raise TrainingError(msg, "invalid_model")
            self.parts.append(module)
