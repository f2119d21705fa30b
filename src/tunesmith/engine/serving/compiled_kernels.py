"""One token through all layers of a decoder, as one compiled function; needs numba.

PyTorch runs some twenty operations a layer for it, and its products with one row read weights at
half of the speed at which they could be read. Here sixteen outputs are computed side by side,
weights are asked for ahead of their use, and everything between the products stays in float32.

Weights are arrays of 32-bit numbers, (layers, blocks of 16 outputs, steps, 16). In bfloat16 a step
holds two inputs. With 4 bits it is a fifth of a group of 32 inputs: four times 8 inputs, then
scale and offset. Addresses are passed as numbers, as the keys and values, and adapters, lie
in memory of PyTorch's. What calls this checks it; see `compiled_decoder`.
"""

# numba has no types, calls some arguments by its own rules, and wants plain loops.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator"
# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportPrivateImportUsage=false
# ruff: noqa: ANN001, ANN202, ARG001, C901, PLR0912, PLR0917

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["run_layers"]

_LANES = 16
_UNROLLED = 4  # steps of a bf16 product, so that additions do not wait for each other
_AHEAD = 1024  # bytes; the processor's own prefetching stops at the end of a page
_GROUP_STEPS = 5
_BYTE, _INT, _FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()
_FLOATS, _INTS = ir.VectorType(_FLOAT, _LANES), ir.VectorType(_INT, _LANES)


def _all(value: int) -> Any:
    return ir.Constant(_INTS, [value] * _LANES)


def _zeros() -> Any:
    return ir.Constant(_FLOATS, [0.0] * _LANES)


def _spread(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, _all(0))


def _multiply_add(builder: Any, left: Any, right: Any, total: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS, _FLOATS, _FLOATS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v16f32")
    return builder.call(function, [left, right, total])


def _load(builder: Any, address: Any) -> Any:
    """Load 16 weights, and ask for those that lie further on."""
    place = builder.bitcast(address, _BYTE.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT, _INT, _INT])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    further = builder.gep(place, [ir.Constant(ir.IntType(64), _AHEAD)])
    builder.call(prefetch, [further, *(ir.Constant(_INT, value) for value in (0, 3, 1))])
    return builder.load(builder.bitcast(address, _INTS.as_pointer()), align=4)


def _halves(builder: Any, pairs: Any) -> tuple[Any, Any]:
    """Return the bfloat16 numbers in the lower and in the upper halves, as float32."""
    low = builder.bitcast(builder.shl(pairs, _all(16)), _FLOATS)
    return low, builder.bitcast(builder.and_(pairs, _all(0xFFFF0000)), _FLOATS)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.bitcast(address, _FLOATS.as_pointer()), align=4)


@intrinsic
def _bf16_product(_context, weights, blocks, steps, inputs, outputs):
    """Write a product of bf16 weights; `steps` is a multiple of `_UNROLLED`."""
    signature = types.void(weights, blocks, steps, inputs, outputs)

    def generate(context, builder, _signature, arguments):
        weights, blocks, steps, inputs, outputs = arguments

        def number(value: int) -> Any:
            return ir.Constant(steps.type, value)

        weights = builder.inttoptr(weights, _INT.as_pointer())
        inputs = builder.inttoptr(inputs, _FLOAT.as_pointer())
        outputs = builder.inttoptr(outputs, _FLOAT.as_pointer())
        totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(2 * _UNROLLED)]
        with cgutils.for_range(builder, blocks) as block:
            size = builder.mul(steps, number(_LANES))
            start = builder.gep(weights, [builder.mul(block.index, size)])
            for total in totals:
                builder.store(_zeros(), total)
            with cgutils.for_range(builder, builder.udiv(steps, number(_UNROLLED))) as loop:
                first = builder.mul(loop.index, number(_UNROLLED))
                for part in range(_UNROLLED):
                    step = builder.add(first, number(part))
                    address = builder.gep(start, [builder.mul(step, number(_LANES))])
                    halves = _halves(builder, _load(builder, address))
                    for side, half in enumerate(halves):
                        place = builder.add(builder.mul(step, number(2)), number(side))
                        value = _spread(builder, builder.load(builder.gep(inputs, [place])))
                        total = totals[2 * part + side]
                        added = _multiply_add(builder, half, value, builder.load(total))
                        builder.store(added, total)
            result = builder.load(totals[0])
            for total in totals[1:]:
                result = builder.fadd(result, builder.load(total))
            place = builder.gep(outputs, [builder.mul(block.index, number(_LANES))])
            _store(builder, result, place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _int4_product(_context, weights, blocks, groups, inputs, sums, outputs):
    """Write a product of 4-bit weights; `sums` are those of each group's inputs.

    A number n is put into a float's upper digits, where it reads as 1 + n / 16.
    """
    signature = types.void(weights, blocks, groups, inputs, sums, outputs)

    def generate(context, builder, _signature, arguments):
        weights, blocks, groups, inputs, sums, outputs = arguments

        def number(value: int) -> Any:
            return ir.Constant(groups.type, value)

        weights = builder.inttoptr(weights, _INT.as_pointer())
        inputs = builder.inttoptr(inputs, _FLOAT.as_pointer())
        sums = builder.inttoptr(sums, _FLOAT.as_pointer())
        outputs = builder.inttoptr(outputs, _FLOAT.as_pointer())
        size = number(_GROUP_STEPS * _LANES)
        total = cgutils.alloca_once(builder, _FLOATS)
        with cgutils.for_range(builder, blocks) as block:
            start = builder.gep(weights, [builder.mul(block.index, builder.mul(groups, size))])
            builder.store(_zeros(), total)
            with cgutils.for_range(builder, groups) as loop:
                group = builder.gep(start, [builder.mul(loop.index, size)])
                first = builder.mul(loop.index, number(32))
                parts = [_zeros()] * 4
                for quarter in range(4):
                    packed = _load(builder, builder.gep(group, [number(_LANES * quarter)]))
                    for place in range(8):
                        shift = 19 - 4 * place
                        turn = builder.shl if shift > 0 else builder.lshr
                        digits = builder.and_(turn(packed, _all(abs(shift))), _all(15 << 19))
                        weight = builder.bitcast(builder.or_(digits, _all(0x3F800000)), _FLOATS)
                        index = builder.add(first, number(8 * quarter + place))
                        value = _spread(builder, builder.load(builder.gep(inputs, [index])))
                        parts[place % 4] = _multiply_add(builder, weight, value, parts[place % 4])
                scales = _load(builder, builder.gep(group, [number(4 * _LANES)]))
                offset, scale = _halves(builder, scales)
                # (n - 8) * scale = (16 * digits - 24) * scale
                value = _spread(builder, builder.load(builder.gep(sums, [loop.index])))
                sixteen = ir.Constant(_FLOATS, [16.0] * _LANES)
                shifted = ir.Constant(_FLOATS, [-24.0] * _LANES)
                halves = builder.fadd(parts[0], parts[1]), builder.fadd(parts[2], parts[3])
                product = builder.fmul(sixteen, builder.fadd(*halves))
                product = _multiply_add(builder, shifted, value, product)
                added = _multiply_add(builder, scale, product, builder.load(total))
                builder.store(_multiply_add(builder, offset, value, added), total)
            place = builder.gep(outputs, [builder.mul(block.index, number(_LANES))])
            _store(builder, builder.load(total), place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _pointer(_context, address):
    def generate(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@intrinsic
def _bits(_context, number):
    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], _INT)

    return types.uint32(types.float32), generate


@intrinsic
def _from_bits(_context, bits):
    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.uint32), generate


_OPTIONS = {"fastmath": True, "nogil": True, "boundscheck": False, "error_model": "numpy"}
_inlined = njit(inline="always", **_OPTIONS)


def _compiled(function: Any) -> Any:
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder can be written to, so it is compiled at each start
        return njit(**_OPTIONS)(function)


@_inlined
def _from_bf16(bits):
    return _from_bits(np.uint32(bits) << np.uint32(16))


@_inlined
def _to_bf16(number):
    bits = _bits(np.float32(number))
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@_inlined
def _exp(number):
    """Return e to the power of a number, within float32's rounding; a loop of it is vectorised."""
    number = min(max(number, np.float32(-87.0)), np.float32(88.0))
    power = np.floor(number * np.float32(1.4426950408889634) + np.float32(0.5))
    rest = number - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    series = series * rest * rest + rest + np.float32(1.0)
    return series * _from_bits(np.uint32(np.int32(power) + np.int32(127)) << np.uint32(23))


@_compiled
def _norm(inputs, weight, eps, outputs):
    total = np.float32(0.0)
    for index in range(inputs.size):
        total += inputs[index] * inputs[index]
    factor = np.float32(1.0) / np.sqrt(total / np.float32(inputs.size) + eps)
    for index in range(inputs.size):
        outputs[index] = inputs[index] * factor * weight[index]


@_compiled
def _product(is_int4, weights, inputs, sums, outputs):
    blocks, steps = weights.shape[0], weights.shape[1]
    if is_int4:
        groups = inputs.size // 32
        for group in range(groups):
            total = np.float32(0.0)
            for index in range(32):
                total += inputs[32 * group + index]
            sums[group] = total
        _int4_product(
            weights.ctypes.data,
            blocks,
            groups,
            inputs.ctypes.data,
            sums.ctypes.data,
            outputs.ctypes.data,
        )
    else:
        _bf16_product(weights.ctypes.data, blocks, steps, inputs.ctypes.data, outputs.ctypes.data)


@_compiled
def _adapt(adapter, inputs, low_rank, added, outputs):
    """Add an adapter's products: addresses of A and B, and the rank, a multiple of 16."""
    rank = adapter[2]
    if rank == 0:
        return
    _bf16_product(
        adapter[0], rank // 16, inputs.size // 2, inputs.ctypes.data, low_rank.ctypes.data
    )
    _bf16_product(
        adapter[1], outputs.size // 16, rank // 2, low_rank.ctypes.data, added.ctypes.data
    )
    for index in range(outputs.size):
        outputs[index] += added[index]


@_compiled
def _rotate(head, cos, signed_sin, turned):
    half = head.size // 2
    for index in range(half):
        turned[index] = head[index] * cos[index] + head[index + half] * signed_sin[index]
    for index in range(half, head.size):
        turned[index] = head[index] * cos[index] + head[index - half] * signed_sin[index]
    for index in range(head.size):
        head[index] = turned[index]


@_compiled
def _attend(queries, keys, values, width, scores, outputs):
    """Let the query heads of one key-value head, (G, d), attend to `width` positions."""
    groups, size = queries.shape
    for position in range(width):
        for group in range(groups):
            total = np.float32(0.0)
            for index in range(size):
                total += queries[group, index] * _from_bf16(keys[position, index])
            scores[group, position] = total
    for group in range(groups):
        greatest = scores[group, 0]
        for position in range(width):
            greatest = max(greatest, scores[group, position])
        total = np.float32(0.0)
        for position in range(width):
            share = _exp(scores[group, position] - greatest)
            scores[group, position] = share
            total += share
        factor = np.float32(1.0) / total
        for index in range(size):
            outputs[group, index] = np.float32(0.0)
        for position in range(width):
            share = scores[group, position] * factor
            for index in range(size):
                outputs[group, index] += share * _from_bf16(values[position, index])


@_compiled
def run_layers(
    hidden,
    position,
    is_int4,
    weights,
    bias,
    norms,
    head_norms,
    eps,
    scaling,
    rotation,
    cache,
    capacity,
    adapters,
    shape,
    scratch,
) -> None:
    """Send one token through all layers, and change `hidden` to what the last norm returns.

    Args:
        hidden: The token's embedding (D), float32.
        position: Its position.
        is_int4: Whether the weights are 4-bit numbers.
        weights: Those of qkv, output, gate-up and down, each of all layers; see above.
        bias: Of qkv, (layers, outputs), or (0, 0).
        norms: (2 * layers + 1, D): of each layer's input, after its attention; the last one.
        head_norms: Of queries and keys, (layers, 2, d), or (0, 2, d).
        eps: That of the norms.
        scaling: Of the attention's scores.
        rotation: Cosines and signed sines of the position, (2, d).
        cache: Addresses of the keys and the values of the sequence, (layers, 2).
        capacity: The positions that fit there.
        adapters: Of each product, addresses of A and B and the rank, (layers, 4, 3).
        shape: Key-value heads, queries for each of them, size of a head.
        scratch: Float32, (4, most numbers that a product takes or returns, or positions * queries).
    """
    heads, groups, size = shape
    queries = heads * groups
    qkv_weights, output_weights, gate_weights, down_weights = weights
    normed = scratch[0, : hidden.size]
    sums, low_rank = scratch[1], scratch[2]
    qkv = np.empty((queries + 2 * heads, size), np.float32)
    flat = qkv.reshape(-1)
    attended = np.empty((queries, size), np.float32)
    between = gate_weights.shape[1] * _LANES // 2
    gate_up = np.empty(2 * between, np.float32)
    product = np.empty(between, np.float32)
    added = np.empty(hidden.size, np.float32)
    turned = np.empty(size, np.float32)
    scores = np.empty((groups, position + 1), np.float32)
    for layer in range(qkv_weights.shape[0]):
        _norm(hidden, norms[2 * layer], eps, normed)
        _product(is_int4, qkv_weights[layer], normed, sums, flat)
        if bias.shape[0]:
            for index in range(flat.size):
                flat[index] += bias[layer, index]
        _adapt(adapters[layer, 0], normed, low_rank, scratch[3], flat)
        keys = carray(_pointer(cache[layer, 0]), (heads, capacity, size), np.uint16)
        values = carray(_pointer(cache[layer, 1]), (heads, capacity, size), np.uint16)
        for head in range(queries + heads):
            if head_norms.shape[0]:
                _norm(qkv[head], head_norms[layer, int(head >= queries)], eps, qkv[head])
            _rotate(qkv[head], rotation[0], rotation[1], turned)
        for head in range(heads):
            for index in range(size):
                keys[head, position, index] = _to_bf16(qkv[queries + head, index])
                values[head, position, index] = _to_bf16(qkv[queries + heads + head, index])
        for head in range(queries):
            for index in range(size):
                qkv[head, index] *= scaling
        for head in range(heads):
            mine = slice(head * groups, (head + 1) * groups)
            _attend(qkv[mine], keys[head], values[head], position + 1, scores, attended[mine])
        _product(is_int4, output_weights[layer], attended.reshape(-1), sums, added)
        _adapt(adapters[layer, 1], attended.reshape(-1), low_rank, scratch[3], added)
        for index in range(hidden.size):
            hidden[index] += added[index]
        _norm(hidden, norms[2 * layer + 1], eps, normed)
        _product(is_int4, gate_weights[layer], normed, sums, gate_up)
        _adapt(adapters[layer, 2], normed, low_rank, scratch[3], gate_up)
        for index in range(between):
            activated = gate_up[index]
            shaped = activated / (np.float32(1.0) + _exp(-activated))
            product[index] = shaped * gate_up[between + index]
        _product(is_int4, down_weights[layer], product, sums, added)
        _adapt(adapters[layer, 3], product, low_rank, scratch[3], added)
        for index in range(hidden.size):
            hidden[index] += added[index]
    _norm(hidden, norms[norms.shape[0] - 1], eps, normed)
    for index in range(hidden.size):
        hidden[index] = normed[index]
