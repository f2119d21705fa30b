"""A decoder's forward pass in few operations, for processors: one token costs little beside it.

transformers' modules run some fifty small operations a layer, which for one token cost more than
the products with the weights. Here the query, key and value projections are one product, as are
gate and up; norms, rotary embedding and attention take a dozen operations. It is used only for
architectures that it knows, and only where layers of the model are proven to compute the
same; everything else runs in transformers' own modules.

Shapes: B sequences, T tokens of each, N = B * T, D the hidden size, H key-value heads, G query
heads for each of them, d the size of a head.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.models.prepacked import can_prepack

from .attention_mask import attention_mask
from .compiled_decoder import CompiledDecoder, find_kernel
from .kv_cache import create_kv_cache
from .lora import MultiLora
from .packed_linear import LANES, PackedLinear

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from .kv_cache import KVCache
    from .packed_linear import WeightFormat

__all__ = ["FusedDecoder", "fuse_decoder"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_PROBE_TOKENS = 12
_TOLERANCE = 1e-4  # relative to the norm of what a layer adds
_ROUNDING = 0.05  # of bfloat16 in all layers, relative
_COMPILED_INPUTS = 32
_FEW_ROWS = 8  # up to here two small operations are faster than PyTorch's norm


@dataclass(slots=True)
class _Layer:
    """One layer: four products, the names of the modules that each replaces, and the norms."""

    qkv: PackedLinear
    output: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear
    qkv_names: tuple[str, ...]
    output_names: tuple[str, ...]
    gate_up_names: tuple[str, ...]
    down_names: tuple[str, ...]
    input_norm: _Norm
    post_norm: _Norm
    query_key_norm: _Norm | None


class _Norm:
    """A root mean square norm.

    Args:
        weight: (D,), or (heads, d) where each head has its own.
        eps: Added to the mean of the squares.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.size = weight.shape[-1]
        self.eps = eps
        self.weight = weight.contiguous()
        self.is_vector = weight.dim() == 1
        # The norm of (x, -x), whose mean is 0, is the layer norm, which PyTorch has as one kernel.
        self._doubled = torch.cat([weight, weight]) if self.is_vector else None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the norm of `inputs`, over their last dimension."""
        if self._doubled is not None and inputs.shape[0] <= _FEW_ROWS:
            doubled = torch.cat([inputs, -inputs], dim=-1)
            shape = (2 * self.size,)
            normed = functional.layer_norm(doubled, shape, self._doubled, None, self.eps)
            return normed[..., : self.size].contiguous()
        if self.is_vector:
            return functional.rms_norm(inputs, (self.size,), self.weight, self.eps)
        return functional.rms_norm(inputs, (self.size,), None, self.eps) * self.weight


@dataclass(frozen=True, slots=True)
class _Pass:
    """What is the same for all layers of a forward pass.

    Attributes:
        length: T.
        cos: Cosines of the rotary embedding, (N, 1, d) or (1, 1, d).
        signed_sin: Its sines, those of the first half negative; shaped alike.
        mask: Added to the attention scores; None where each token sees all up to itself.
    """

    length: int
    cos: Tensor
    signed_sin: Tensor
    mask: Tensor | None
    cache: KVCache
    lora: MultiLora


class FusedDecoder:
    """The layers of a decoder-only model, with its embedding and last norm but without the head.

    The linear layers of the model's own layers have no weights any more.

    Args:
        model: A model of one of `FAMILIES`, in evaluation mode, on a processor.
        layers: Its layers.
        weights: The form in which to keep their weights.
        kernel: Compiled code for single tokens, if there is some; see `compiled_decoder`.

    Attributes:
        compiled: The layers in the form that it runs.
    """

    def __init__(
        self, model: Any, layers: Iterable[Any], weights: WeightFormat, kernel: Any = None
    ) -> None:
        config = model.config
        self._embedding: nn.Module = model.get_input_embeddings()
        self._rotary: nn.Module = model.model.rotary_emb
        self._norm = _norm(model.model.norm)
        first = model.model.layers[0].self_attn
        self._heads: int = config.num_key_value_heads
        self._groups: int = config.num_attention_heads // self._heads
        self._head_dim: int = first.head_dim
        self._scaling: float = first.scaling
        self._windowed: bool = getattr(config, "sliding_window", None) is not None
        self._prepacked = can_prepack(first.q_proj.weight)
        names = {module: name for name, module in model.named_modules()}
        self._layers = [self._fuse(layer, names, weights, kernel) for layer in layers]
        self.compiled: CompiledDecoder | None = None
        if kernel is not None:
            self.compiled = self._compile(kernel)

    def _compile(self, kernel: Any) -> CompiledDecoder:
        heads = [layer.query_key_norm for layer in self._layers]
        norms = [norm for layer in self._layers for norm in (layer.input_norm, layer.post_norm)]
        return CompiledDecoder(
            kernel,
            [(layer.qkv, layer.output, layer.gate_up, layer.down) for layer in self._layers],
            [
                (layer.qkv_names, layer.output_names, layer.gate_up_names, layer.down_names)
                for layer in self._layers
            ],
            norms=[norm.weight for norm in (*norms, self._norm)],
            head_norms=[norm.weight[[0, -1]] for norm in heads if norm is not None],
            eps=self._norm.eps,
            scaling=self._scaling,
            shape=(self._heads, self._groups, self._head_dim),
        )

    def _fuse(
        self, layer: Any, names: dict[Any, str], weights: WeightFormat, kernel: Any
    ) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        parts = (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )
        qkv, output, gate_up, down = (
            PackedLinear(part, weights, prepacked=self._prepacked, lanes=kernel is not None)
            for part in parts
        )
        qkv_names, output_names, gate_up_names, down_names = (
            tuple(names.get(module, "") for module in part) for part in parts
        )
        query_key_norm = None
        if hasattr(attention, "q_norm"):
            heads = [attention.q_norm.weight.detach()] * (self._heads * self._groups)
            heads += [attention.k_norm.weight.detach()] * self._heads
            query_key_norm = _Norm(torch.stack(heads), attention.q_norm.variance_epsilon)
        return _Layer(
            qkv=qkv,
            output=output,
            gate_up=gate_up,
            down=down,
            qkv_names=qkv_names,
            output_names=output_names,
            gate_up_names=gate_up_names,
            down_names=down_names,
            input_norm=_norm(layer.input_layernorm),
            post_norm=_norm(layer.post_attention_layernorm),
            query_key_norm=query_key_norm,
        )

    def needs_mask(self, batch: int, start: int, length: int) -> bool:
        """Return whether a pass over `length` tokens from position `start` needs a mask."""
        return self._windowed or batch > 1 or (length > 1 and start > 0)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: KVCache,
        lora: MultiLora,
    ) -> Tensor:
        """Return the hidden states (N, D) that the head takes, and fill the cache.

        Args:
            tokens: Token ids (B, T).
            positions: Their positions, (B, T) or (1, T).
            mask: Added to the attention scores, (B or 1, 1, T, width); None where `needs_mask`
                says so.
            cache: Prepared for this pass.
            lora: With the adapters of this pass.
        """
        hidden = self._embedding(tokens)
        batch, length, _ = hidden.shape
        if self.compiled is not None and length == 1 and self.compiled.can_run(cache, batch):
            rotation = torch.cat(self._rotation(hidden, positions), dim=1)
            return self.compiled.run(hidden[:, 0], rotation, cache, lora)
        return self._norm(self.run_layers(hidden, positions, mask, cache, lora))

    def run_layers(
        self,
        hidden: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: KVCache,
        lora: MultiLora,
    ) -> Tensor:
        """Return the output (N, D) of the layers for an input (B, T, D); see `forward`."""
        batch, length, _ = hidden.shape
        cos, signed_sin = self._rotation(hidden, positions)
        if mask is not None and length == 1:
            mask = mask.expand(-1, 1, self._groups, -1)
        shared = _Pass(length, cos, signed_sin, mask, cache, lora)
        hidden = hidden.view(batch * length, -1)
        for number, layer in enumerate(self._layers):
            hidden = self._run_layer(number, layer, hidden, shared)
        return hidden

    def _rotation(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and signed sines for `_Pass`."""
        cos, sin = self._rotary(hidden, positions)
        batch = hidden.shape[0]
        half = self._head_dim // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        if cos.shape[0] != batch:
            cos, signed = cos.expand(batch, -1, -1), signed.expand(batch, -1, -1)
        shape = (-1, 1, self._head_dim)
        return cos.reshape(shape), signed.reshape(shape)

    def _run_layer(self, number: int, layer: _Layer, hidden: Tensor, shared: _Pass) -> Tensor:
        lora = shared.lora
        normed = layer.input_norm(hidden)
        qkv = lora.add_to(layer.qkv_names, normed, layer.qkv(normed))
        attended = self._attend(number, layer, qkv, shared)
        hidden = lora.add_to(layer.output_names, attended, layer.output(attended, add=hidden))
        normed = layer.post_norm(hidden)
        gate_up = lora.add_to(layer.gate_up_names, normed, layer.gate_up(normed))
        activated, up = gate_up.chunk(2, dim=-1)
        product = functional.silu(activated).mul_(up)
        return lora.add_to(layer.down_names, product, layer.down(product, add=hidden))

    def _attend(self, number: int, layer: _Layer, qkv: Tensor, shared: _Pass) -> Tensor:
        """Return what the tokens attend to, (N, H * G * d)."""
        heads, groups, size = self._heads, self._groups, self._head_dim
        queries = heads * groups
        split = qkv.view(-1, queries + 2 * heads, size)
        turned = split[:, : queries + heads]
        if layer.query_key_norm is not None:
            turned = layer.query_key_norm(turned)
        # The second half of each head comes first here, and half of the sines are negative.
        swapped = turned.roll(size // 2, -1)
        turned = torch.addcmul(turned * shared.cos, swapped, shared.signed_sin)
        keys, values = shared.cache.store(
            number, turned[:, queries:], split[:, queries + heads :], shared.length
        )
        query = turned[:, :queries]
        if shared.length == 1:  # the queries of a group are like tokens that see the same
            attended = functional.scaled_dot_product_attention(
                query.view(-1, heads, groups, size),
                keys,
                values,
                attn_mask=shared.mask,
                scale=self._scaling,
            )
            return attended.reshape(-1, queries * size)
        attended = functional.scaled_dot_product_attention(
            query.view(-1, shared.length, queries, size).transpose(1, 2),
            keys,
            values,
            attn_mask=shared.mask,
            is_causal=shared.mask is None,
            scale=self._scaling,
            enable_gqa=groups > 1,
        )
        return attended.transpose(1, 2).reshape(-1, queries * size)


def fuse_decoder(
    model: Any, weights: WeightFormat, text: Sequence[int] = range(_PROBE_TOKENS)
) -> FusedDecoder | None:
    """Return a model's layers in fused form, or None where that is not proven to be the same.

    Args:
        model: A causal language model of transformers.
        weights: The form in which to keep the weights.
        text: Token ids by which compiled code is tried. Those of an ordinary text: on a row of
            special tokens, of which no model has seen one, bfloat16 alone rounds by 4 to 19 %.
    """
    if not _is_known(model) or not _is_proven(model):
        return None
    with torch.inference_mode():
        decoder = FusedDecoder(model, model.model.layers, weights, _find_kernel(model))
        if decoder.compiled is not None and not _is_same(decoder, model, text):
            logger.warning("compiled code is not used: it does not compute what PyTorch does")
            decoder.compiled = None
    return decoder


def _find_kernel(model: Any) -> Any:
    """Return compiled code for a model's layers, or None where it does not fit them."""
    layers = model.model.layers
    parts = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    norms = [module for module in model.model.modules() if hasattr(module, "variance_epsilon")]
    fits = (
        getattr(model.config, "sliding_window", None) is None
        and len({norm.variance_epsilon for norm in norms}) == 1
        and all(
            part.weight.dtype == torch.bfloat16
            and part.out_features % LANES == 0
            and part.in_features % _COMPILED_INPUTS == 0
            for part in parts
        )
        and all(
            part.bias is None
            for layer in layers
            for part in (layer.self_attn.o_proj, *layer.mlp.modules())
            if isinstance(part, nn.Linear)
        )
    )
    return find_kernel(sum(part.weight.numel() for part in parts)) if fits else None


def _is_same(decoder: FusedDecoder, model: Any, text: Sequence[int]) -> bool:
    """Return whether compiled code computes the last token of a text as PyTorch does."""
    compiled, dtype = decoder.compiled, torch.bfloat16
    tokens = torch.tensor([list(text)]) % model.config.vocab_size
    positions = torch.arange(len(text)).unsqueeze(0)
    last, lora = len(text) - 1, MultiLora(model)
    states: list[Tensor] = []
    for decoder.compiled in (None, compiled):
        cache = create_kv_cache(model.config, dtype, 1 << 30)
        cache.reserve(1, len(text))
        cache.prepare_prefill(0, 1, 0, last)
        decoder.forward(tokens[:, :last], positions[:, :last], None, cache, lora)
        cache.prepare_decode(positions[0, last:], len(text))
        try:
            states.append(
                decoder.forward(tokens[:, last:], positions[:, last:], None, cache, lora).float()
            )
        except Exception:
            logger.exception("compiled code failed")
            return False
    expected, found = states
    return bool((found - expected).norm() <= _ROUNDING * expected.norm())


def _is_known(model: Any) -> bool:
    config = model.config
    first = model.model.layers[0] if config.model_type in FAMILIES else None
    return (
        first is not None
        and model.device.type == "cpu"
        and config.hidden_act == "silu"
        and len(set(getattr(config, "layer_types", None) or ["full"])) == 1
        and all(
            type(module) is nn.Linear
            for part in (first.self_attn, first.mlp)
            for module in part.modules()
            if isinstance(module, nn.Linear)
        )
    )


def _is_proven(model: Any) -> bool:
    """Return whether the first and the last layer, in float32, compute the same in both forms.

    The first layer's input are real embeddings, the last one's are what the first one returns.
    """
    tokens = torch.arange(_PROBE_TOKENS).unsqueeze(0) % model.config.vocab_size
    positions = torch.arange(_PROBE_TOKENS).unsqueeze(0)
    mask = attention_mask(model.config, positions, _PROBE_TOKENS, torch.float32)
    lora = MultiLora(model)
    with torch.inference_mode():
        hidden = model.get_input_embeddings()(tokens).float()
        for place in {0: None, len(model.model.layers) - 1: None}:
            layer = copy.deepcopy(model.model.layers[place]).float()
            rotation = model.model.rotary_emb(hidden, positions)
            expected = layer(
                hidden,
                attention_mask=mask,
                position_ids=positions,
                position_embeddings=rotation,
            )
            fused = FusedDecoder(model, [layer], "unquantized")
            outputs = _probe(fused, model.config, hidden, positions, lora)
            difference = float((outputs - expected[0]).norm())
            if not difference <= _TOLERANCE * float((expected - hidden).norm()):
                return False
            hidden = expected
    return True


def _probe(
    decoder: FusedDecoder, config: Any, hidden: Tensor, positions: Tensor, lora: MultiLora
) -> Tensor:
    """Return the layers' output (T, D) for `hidden` (1, T, D): a prompt, a second part, a token."""
    length = hidden.shape[1]
    cache = create_kv_cache(config, hidden.dtype, 1 << 30)
    cache.reserve(1, length)
    outputs: list[Tensor] = []
    for start, stop in ((0, 5), (5, length - 1), (length - 1, length)):
        place = positions[:, start:stop]
        if stop - start == 1:
            cache.prepare_decode(place[0], stop)
        else:
            cache.prepare_prefill(0, 1, start, stop - start)
        mask: Any = None
        if decoder.needs_mask(1, start, stop - start):
            mask = attention_mask(config, place, stop, hidden.dtype)
        outputs.append(decoder.run_layers(hidden[:, start:stop], place, mask, cache, lora))
    return torch.cat(outputs)


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach(), module.variance_epsilon)
