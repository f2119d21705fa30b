"""Whether a model is served by the fast path: its numbers against those of the plain model.

A short text goes through both, prompts in parts and in a batch with other lengths, tokens one at
a time, and a batch of several adapters. Where a logit differs by more than rounding, or the fast
path cannot run the model at all, the general path serves it. Sliding windows are narrowed for
the proof, so that a short text leaves them.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.engine.models.loading import find_layers, projection_shape, text_config
from tunesmith.engine.training.targets import linear_layers

from .attention_mask import attention_fault
from .general_runner import GeneralCache, GeneralRunner, returned_cache
from .generation import GenerationRequest
from .kv_cache import create_kv_cache
from .lora import LoraAdapter
from .model_runner import ModelRunner
from .sequence import SequenceGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from .loaded_base import LoadedBase
    from .sequence import Sequence

__all__ = [
    "choose_general_path",
    "fast_fault",
    "known_fault",
    "narrow_window",
    "plain_logits",
]

_WINDOW = 6
_PROMPT, _SHORT, _PART = 20, 9, 8  # tokens
_RANK = 2
_CACHE_BYTES = 1 << 28
# Of the standard deviation, at a position: rounding stays below, a wrong computation does not.
_EXACT, _ROUNDED = 1e-3, 0.1
# Settings that say that a token does not see all before it, in ways that the text is too short for.
_OTHER_WINDOWS = re.compile(r"window|chunk|local_attention|attention_types|block_size")
# Those of attention alone: a scan in chunks computes the same wherever they begin.
_WINDOWS = re.compile(r"window|attention_chunk|local_attention|attention_types|block_size")
_NO_OTHER_WINDOWS = {
    "sliding_window",
    "sliding_window_pattern",
    "max_window_layers",
    "chunk_size_feed_forward",
}


@contextlib.contextmanager
def narrow_window(config: Any) -> Iterator[None]:
    """Within the block, let a sliding window be narrower than the text of the proof.

    Args:
        config: The configuration of the text model.
    """
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or window <= _WINDOW:
        yield
        return
    config.sliding_window = _WINDOW
    try:
        yield
    finally:
        config.sliding_window = window


def plain_logits(model: Any, ids: list[int], device: torch.device) -> Tensor:
    """Return the logits of the plain model after each token, shape (T, V), in float32."""
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([ids], device=device), use_cache=False)
    logits: Tensor = output.logits
    return logits[0].float()


def known_fault(model: Any) -> str:
    """Return what in a model's settings rules out the fast path; empty if nothing does."""
    return attention_fault(model) or _window_fault(text_config(model))


def fast_fault(base: LoadedBase, ids: list[int], expected: Tensor) -> str:
    """Return why a model must not be served by the fast path; empty if it computes the same.

    Args:
        base: The model.
        ids: Token ids of a text (T).
        expected: What `plain_logits` returned for them, before anything in the model changed.
    """
    try:
        with torch.inference_mode():
            if _differ(_by_fast_path(base, ids), _expected_rows(expected), base.dtype):
                return "with the engine's cache it computes other logits than without"
            # A fused decoder leaves no plain layers to compare with; it adds adapters itself.
            return "" if base.decoder is not None else _adapter_fault(base, ids)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other path does without
        return f"it does not run with the engine's cache ({type(error).__name__})"
    finally:
        base.lora.remove_hooks()


def choose_general_path(base: LoadedBase, reason: str, ids: list[int], expected: Tensor) -> None:
    """Let a model be served by the general path, with its own cache where that is right.

    Args:
        base: The model.
        reason: Why the fast path does not serve it.
        ids: Token ids of a text (T).
        expected: What `plain_logits` returned for them.
    """
    base.run_path, base.path_reason = "general", reason
    with torch.inference_mode():
        base.caches = _own_cache_is_right(base, ids, expected)
        base.batches = (
            base.caches
            and not _has_window(base.config)  # longer than the text, so not proven
            and _padded_batches_are_right(base, ids, expected)
        )
        base.lora.remove_hooks()


def _window_fault(config: Any) -> str:
    for key, value in config.to_dict().items():
        name = key.lstrip("_")
        is_window = _OTHER_WINDOWS.search(name) and name not in _NO_OTHER_WINDOWS
        if is_window and value and not isinstance(value, bool):
            return f"it attends in a way that only the model itself knows ({name})"
    return ""


def _has_window(config: Any) -> bool:
    return any(
        _WINDOWS.search(name) and name not in _NO_OTHER_WINDOWS - {"sliding_window"} and value
        for name, value in config.to_dict().items()
    )


def _by_fast_path(base: LoadedBase, ids: list[int]) -> Tensor:
    """Return logits of a prompt read in parts, of a short one, and of two tokens after each."""
    long, short = _sequences(base, [ids[:_PROMPT], ids[:_SHORT]])
    cache = create_kv_cache(base.config, base.dtype, _CACHE_BYTES)
    runner = ModelRunner(base, cache)
    cache.reserve(2, len(ids))
    runner.prefill([long], 0, 0, _PART)
    rows = [runner.prefill([long], 0, _PART, _PROMPT).values]
    rows.append(runner.prefill([short], 1, 0, _SHORT).values)
    for step in range(2):
        long.tokens.append(ids[_PROMPT + step])
        short.tokens.append(ids[_SHORT + step])
        rows.append(runner.decode([long, short]).values)
    return torch.cat(rows).float()


def _expected_rows(expected: Tensor) -> Tensor:
    ends = [_PROMPT - 1, _SHORT - 1]
    return expected[[*ends, _PROMPT, _SHORT, _PROMPT + 1, _SHORT + 1]]


def _adapter_fault(base: LoadedBase, ids: list[int]) -> str:
    """Compare a batch of two adapters and none with each of them alone."""
    adapters = [_random_adapter(base, 1), _random_adapter(base, 2), None]
    prompt = ids[:_SHORT]
    expected = []
    for adapter in adapters:
        base.lora.set_active([adapter])
        base.lm_head.rows, base.lm_head.exact_rows = None, []
        logits = base.model(
            input_ids=torch.tensor([ids[: _SHORT + 1]], device=base.device), use_cache=False
        ).logits
        expected.append(logits.reshape(-1, logits.shape[-1])[_SHORT - 1 :])
    sequences = _sequences(base, [prompt] * len(adapters))
    for sequence, adapter in zip(sequences, adapters, strict=True):
        sequence.adapter = adapter
    cache = create_kv_cache(base.config, base.dtype, _CACHE_BYTES)
    runner = ModelRunner(base, cache)
    cache.reserve(len(sequences), len(ids))
    first = runner.prefill(sequences, 0, 0, _SHORT).values
    for sequence in sequences:
        sequence.tokens.append(ids[_SHORT])
    second = runner.decode(sequences).values
    found = torch.stack([first, second], dim=1).flatten(0, 1).float()
    if _differ(found, torch.cat(expected).float(), base.dtype):
        return "in a batch with other adapters it computes other logits than alone"
    return ""


def _own_cache_is_right(base: LoadedBase, ids: list[int], expected: Tensor) -> bool:
    """Return whether the model computes with its own cache what it computes without."""
    base.lora.set_active([None])
    base.lm_head.rows, base.lm_head.exact_rows = None, []
    rows: list[Tensor] = []
    cache: dict[str, Any] = {}
    try:
        for part in [ids[:_PROMPT], *([token] for token in ids[_PROMPT : _PROMPT + 4])]:
            output = base.model(
                input_ids=torch.tensor([part], device=base.device), use_cache=True, **cache
            )
            cache.update(returned_cache(output))
            rows.append(output.logits.reshape(-1, output.logits.shape[-1])[-1:])
    except Exception:  # noqa: BLE001 - then without
        return False
    found = torch.cat(rows).float()
    wanted = expected[_PROMPT - 1 : _PROMPT - 1 + len(rows)]
    return bool(cache) and not _differ(found, wanted, base.dtype, exact=_EXACT / 10)


def _padded_batches_are_right(base: LoadedBase, ids: list[int], expected: Tensor) -> bool:
    """Return whether texts that are padded to one length compute what each computes alone.

    Three of different lengths, with two adapters and none, are read and continued together; then
    one of them leaves.
    """
    lengths = [_PROMPT, _SHORT, _SHORT + 4]
    try:
        adapters = [_random_adapter(base, 1), None, _random_adapter(base, 2)]
        rows = [expected, expected, expected]
        for place in (0, 2):
            base.lora.set_active([adapters[place]])
            base.lm_head.rows, base.lm_head.exact_rows = None, []
            output = base.model(
                input_ids=torch.tensor([ids[: _PROMPT + 3]], device=base.device), use_cache=False
            )
            rows[place] = output.logits.reshape(-1, output.logits.shape[-1])
        sequences = _sequences(base, [ids[:length] for length in lengths])
        for sequence, adapter in zip(sequences, adapters, strict=True):
            sequence.adapter = adapter
        base.batches = True
        runner = GeneralRunner(base, GeneralCache(1 << 30))
        found, wanted = [runner.prefill(sequences, 0, 0, _PROMPT).values], []
        wanted += [row[length - 1] for row, length in zip(rows, lengths, strict=True)]
        kept = [0, 1, 2]
        for step in range(3):
            if step == 2:  # noqa: PLR2004 - the first one leaves, and the last takes its slot
                runner.cache.copy_slot(2, 0, lengths[2] + step)
                kept = [2, 1]
            for place in kept:
                sequences[place].tokens.append(ids[lengths[place] + step])
            found.append(runner.decode([sequences[place] for place in kept]).values)
            wanted += [rows[place][lengths[place] + step] for place in kept]
    except Exception:  # noqa: BLE001 - then each alone
        return False
    finally:
        base.batches = False
    return not _differ(
        torch.cat(found).float(), torch.stack(wanted).float(), base.dtype, exact=_EXACT / 10
    )


def _differ(found: Tensor, expected: Tensor, dtype: torch.dtype, *, exact: float = _EXACT) -> bool:
    """Return whether logits of n positions, shape (n, V), differ by more than rounding."""
    if not bool(torch.isfinite(found).all()):
        return True
    error = (found - expected).square().mean(-1).sqrt() / (expected.std(-1) + 1e-6)
    if dtype == torch.float32:
        return bool(error.max() > exact)
    return bool(error.mean() > _ROUNDED)


def _sequences(base: LoadedBase, prompts: list[list[int]]) -> list[Sequence]:
    request = GenerationRequest(prompts=[*prompts], max_tokens=len(prompts[0]), temperature=0)
    return SequenceGroup(0, request, base, prompts).sequences


def _random_adapter(base: LoadedBase, seed: int) -> LoraAdapter:
    """Return an adapter that changes all linear layers a little."""
    generator = torch.Generator().manual_seed(seed)
    base.lm_head.rows, base.lm_head.exact_rows = None, []
    weights = {}
    for name in linear_layers(base.model, find_layers(base.model) or ""):
        shape = projection_shape(base.model.get_submodule(name))
        assert shape is not None  # noqa: S101 - these have one
        inputs, outputs = shape
        a = torch.randn(_RANK, inputs, generator=generator) / inputs**0.5
        b = torch.randn(outputs, _RANK, generator=generator) * 0.02
        weights[name] = a.to(base.device, base.dtype), b.to(base.device, base.dtype)
    return LoraAdapter(weights)
