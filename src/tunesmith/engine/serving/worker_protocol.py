"""The protocol between the server and its model worker: JSON lines over pipes, plain data.

The server writes commands, one JSON object a line, each with a `kind`: "generate", "cancel",
"load", "loaded", "unload". The worker writes reports: "ready" once, "delta" for each piece of
an answer, "loaded" with the sizes of the models in memory, "done" at the end of "load" and
"loaded", "error" for a request that cannot be answered. Neither side ever unpickles anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.model_info import ServableModel

from .generation import GenerationDelta, GenerationUsage, TokenLogprob, TopLogprob
from .generation_errors import GenerationError
from .tool_call_parser import CallDelta

__all__ = [
    "WorkerSettings",
    "delta_from_json",
    "delta_to_json",
    "encode_line",
    "error_from_json",
    "error_to_json",
    "model_from_json",
    "model_to_json",
]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the model worker behaves; its command line carries them.

    Attributes:
        threads: Threads for torch; None for what OMP_NUM_THREADS says.
        memory_bytes: Bytes of weights to keep in memory; None for what fits the device.
        cache_bytes: Bytes of keys and values for each base model; None for a share of the memory
            that is free when it is loaded.
        max_sequences: Most sequences generated at a time on one base model; None for what suits
            the device.
        max_prefill_tokens: Most prompt tokens prefilled in one step; None for what suits the
            device.
        dtype: "auto", "float32" or "bfloat16".
        device: "auto", "cpu" or "cuda".
        weights: "auto", "unquantized" or "int4"; see `ServingConfig.weights`.
    """

    threads: int | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    max_sequences: int | None = None
    max_prefill_tokens: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    weights: str = "unquantized"


def encode_line(message: dict[str, Any]) -> bytes:
    """Return one message as a line of JSON."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def model_to_json(model: ServableModel) -> dict[str, Any]:
    """Return what the worker needs to know of a model: its folders."""
    return {
        "name": model.name,
        "base_model": model.base_model,
        "base_path": str(model.base_path),
        "adapter_path": None if model.adapter_path is None else str(model.adapter_path),
    }


def model_from_json(data: dict[str, Any]) -> ServableModel:
    """Return the model that `model_to_json` described."""
    adapter = data["adapter_path"]
    return ServableModel(
        name=data["name"],
        base_model=data["base_model"],
        base_path=Path(data["base_path"]),
        adapter_path=None if adapter is None else Path(adapter),
    )


def delta_to_json(delta: GenerationDelta) -> dict[str, Any]:
    """Return a delta as JSON-ready data, with short keys because there are thousands of them."""
    data: dict[str, Any] = {"i": delta.index, "t": delta.text}
    if delta.tokens:
        data["k"] = [
            [
                token.text,
                list(token.data),
                token.logprob,
                token.offset,
                [[top.text, list(top.data), top.logprob] for top in token.top],
            ]
            for token in delta.tokens
        ]
    if delta.reasoning:
        data["r"] = delta.reasoning
    if delta.calls:
        data["c"] = [[call.index, call.arguments, call.id, call.name] for call in delta.calls]
    if delta.finish_reason is not None:
        data["f"] = delta.finish_reason
    if delta.usage is not None:
        data["u"] = asdict(delta.usage)
    return data


def delta_from_json(data: dict[str, Any]) -> GenerationDelta:
    """Return the delta that `delta_to_json` described."""
    usage = data.get("u")
    return GenerationDelta(
        index=data["i"],
        text=data["t"],
        tokens=tuple(
            TokenLogprob(
                text=text,
                data=bytes(raw),
                logprob=logprob,
                offset=offset,
                top=tuple(TopLogprob(name, bytes(part), value) for name, part, value in top),
            )
            for text, raw, logprob, offset, top in data.get("k", ())
        ),
        reasoning=data.get("r", ""),
        calls=tuple(CallDelta(*call) for call in data.get("c", ())),
        finish_reason=data.get("f"),
        usage=None if usage is None else GenerationUsage(**usage),
    )


def error_to_json(error: GenerationError) -> dict[str, Any]:
    """Return an error as JSON-ready data."""
    return {
        "message": error.message,
        "reason": error.kind.value,
        "param": error.param,
        "code": error.code,
    }


def error_from_json(data: dict[str, Any]) -> GenerationError:
    """Return the error that `error_to_json` described."""
    return GenerationError(
        data["message"], kind=ErrorKind(data["reason"]), param=data["param"], code=data["code"]
    )
