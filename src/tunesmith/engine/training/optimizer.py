"""AdamW over the trained parameters: one step of the optimizer, and its state by name.

An adapter has hundreds of small matrices. They are kept in one buffer, and so are their
gradients, so clipping, update and clearing are a few operations and not thousands.
Knows neither steps nor files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from . import distributed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Optimizer"]

_MAX_GRADIENT_NORM = 1.0
_STATE = ("step", "exp_avg", "exp_avg_sq")
_EIGHT_BIT_STATE = ("step", "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2")


class Optimizer:
    """AdamW with clipped gradients.

    Args:
        parameters: What is trained, by name. Afterwards each is a view of the one buffer, if
            `joined`.
        weight_decay: The decoupled decay.
        joined: Keep all parameters in one buffer; they must be of one type and device.
        eight_bits: Keep the moments of large parameters in 8 bits (bitsandbytes), not in 32; not
            for joined ones.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        weight_decay: float,
        joined: bool,
        eight_bits: bool = False,
    ) -> None:
        self._parameters = parameters
        # Name: where its values are in the parameter that the optimizer has.
        self._places: dict[str, tuple[nn.Parameter, slice]] = {}
        if joined:
            self._trained = [self._join()]
        else:
            self._trained = list(parameters.values())
            self._places = {
                name: (parameter, slice(0, parameter.numel()))
                for name, parameter in parameters.items()
            }
        self._joined = joined
        self._eight_bits = eight_bits
        self._adamw: Any
        if eight_bits:
            library: Any = import_module("bitsandbytes")  # an extra
            self._adamw = library.optim.AdamW8bit(self._trained, lr=0.0, weight_decay=weight_decay)
        else:
            self._adamw = torch.optim.AdamW(
                self._trained, lr=0.0, weight_decay=weight_decay, fused=True
            )

    def step(self, rate: float) -> None:
        """Change the parameters by their gradients, and clear those.

        Args:
            rate: The learning rate.
        """
        for group in self._adamw.param_groups:
            group["lr"] = rate
        distributed.sum_gradients(self._trained)
        clip_grad_norm_(self._trained, _MAX_GRADIENT_NORM)
        self._adamw.step()
        self.clear()

    def clear(self) -> None:
        """Clear the gradients."""
        # Those of joined parameters are views of one tensor, which therefore stays.
        self._adamw.zero_grad(set_to_none=not self._joined)

    def state(self) -> dict[str, torch.Tensor]:
        """Return parameters and optimizer state: "parameter/NAME", "exp_avg/NAME" and so on."""
        result = {}
        for name, parameter in self._parameters.items():
            result[f"parameter/{name}"] = parameter.detach()
            trained, place = self._places[name]
            for key, value in self._adamw.state.get(trained, {}).items():
                kept = torch.as_tensor(value)
                # Numbers, and the scales of moments in 8 bits, are not of the parameter's shape.
                is_part = kept.numel() == trained.numel() and kept.dim() > 0
                result[f"{key}/{name}"] = (
                    kept.view(-1)[place].view(parameter.shape) if is_part else kept.clone()
                )
        return {name: value.cpu().contiguous() for name, value in result.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` returned."""
        for name, parameter in self._parameters.items():
            parameter.copy_(state[f"parameter/{name}"])
            trained, place = self._places[name]
            kept = self._adamw.state[trained]
            if self._eight_bits:
                self._load_eight_bits(name, kept, state)
                continue
            for key in _STATE:
                value = state.get(f"{key}/{name}")
                if value is None:
                    continue
                if value.dim() == 0:
                    kept[key] = value.to(trained.device)
                    continue
                if key not in kept:
                    kept[key] = torch.zeros_like(trained)
                kept[key].view(-1)[place].copy_(value.view(-1))

    def _load_eight_bits(
        self, name: str, kept: dict[str, Any], state: Mapping[str, torch.Tensor]
    ) -> None:
        device = self._parameters[name].device
        for key in _EIGHT_BIT_STATE:
            value = state.get(f"{key}/{name}")
            if value is not None:
                kept[key] = int(value) if key == "step" else value.to(device).clone()

    def _join(self) -> nn.Parameter:
        total = sum(parameter.numel() for parameter in self._parameters.values())
        first = next(iter(self._parameters.values()))
        joined = nn.Parameter(first.new_empty(total))
        joined.grad = first.new_zeros(total)
        start = 0
        for name, parameter in self._parameters.items():
            place = slice(start, start + parameter.numel())
            joined.data[place] = parameter.data.view(-1)
            parameter.data = joined.data[place].view(parameter.shape)
            parameter.grad = joined.grad[place].view(parameter.shape)
            self._places[name] = (joined, place)
            start = place.stop
        return joined
