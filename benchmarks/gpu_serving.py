"""Cases of the GPU benchmark that generate: the engine's own process, its vLLM, transformers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_inputs import Bench, Case

    from tunesmith.engine.serving import ServingBackend

PROMPT_TOKENS = 128


def serve(case: Case, bench: Bench) -> dict[str, Any]:
    """Return a result whose `measurements` are one for each number of requests at a time."""
    if case.name == "transformers":
        return {"measurements": [serve_with_transformers(case, bench, n) for n in case.counts]}
    return asyncio.run(serve_with_backend(case, bench))


def prompts_of(count: int) -> list[list[int]]:
    generator = random.Random(0)  # noqa: S311 - the same prompts every time
    return [[generator.randrange(256) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def servable(case: Case, bench: Bench) -> Any:
    from tunesmith.engine.models.model_info import ServableModel

    folder = bench.model_folder(case.shape)
    adapter = folder / "adapter" if case.name.endswith("-adapter") else None
    return ServableModel(case.shape, case.shape, folder, adapter)


def request_of(prompt: list[int], new_tokens: int) -> Any:
    from tunesmith.engine.serving import GenerationRequest

    return GenerationRequest(prompts=[prompt], max_tokens=new_tokens, temperature=0.0)


def backend_of(case: Case, bench: Bench) -> ServingBackend:
    from tunesmith.engine.models.gpus import GpuPool
    from tunesmith.engine.serving import (
        ManagedVllmBackend,
        ManagedVllmSettings,
        create_local_backend,
    )

    if case.name.startswith("vllm"):
        settings = ManagedVllmSettings(bench.folder / "vllm", bench.vllm)
        return ManagedVllmBackend(settings, GpuPool(bench.folder / "gpus"))
    return create_local_backend()


async def serve_with_backend(case: Case, bench: Bench) -> dict[str, Any]:
    """Generate as the engine does with its default settings: everything but HTTP is its own."""
    import torch

    backend = backend_of(case, bench)
    model = servable(case, bench)

    async def generate(prompt: list[int], new_tokens: int) -> int:
        tokens = 0
        async for delta in backend.generate(model, request_of(prompt, new_tokens)):
            tokens += 0 if delta.usage is None else delta.usage.completion_tokens
        return tokens

    measurements = []
    begun = time.perf_counter()
    try:
        await backend.load(model)
        loaded = time.perf_counter() - begun
        for count in case.counts:
            prompts = prompts_of(count)
            await asyncio.gather(*(generate(prompt, 8) for prompt in prompts))
            started = time.perf_counter()
            tokens = sum(await asyncio.gather(*(generate(one, case.size) for one in prompts)))
            seconds = time.perf_counter() - started
            measurements.append(
                {"requests": count, "tokens": tokens, "tokens_per_second": tokens / seconds}
            )
        used = None
        with contextlib.suppress(Exception):  # where NVML cannot be asked
            used = torch.cuda.device_memory_used() / 1e9
    finally:
        await backend.stop()
    return {"measurements": measurements, "load_seconds": loaded, "reserved_gb": used}


def serve_with_transformers(case: Case, bench: Bench, count: int) -> dict[str, Any]:
    """Generate with transformers on one batch of prompts of the same length."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = bench.model_folder(case.shape)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model = model.eval().to(bench.device)
    inputs = torch.tensor(prompts_of(count), device=bench.device)

    def generate(new_tokens: int) -> int:
        with torch.inference_mode():
            output = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                do_sample=False,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
            )
        return int(output[:, inputs.shape[1] :].numel())

    generate(8)
    bench.reset_peak()
    started = bench.clock()
    tokens = generate(case.size)
    seconds = bench.clock() - started
    return {
        "requests": count,
        "tokens_per_second": tokens / seconds,
        "step_ms": seconds / case.size * 1e3,
        "tokens": tokens,
        "peak_gb": bench.peak(),
    }
