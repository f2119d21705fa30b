"""What 4-bit weights cost in quality: the same texts through a model in both forms.

    python benchmarks/int4_quality.py --base FOLDER --rows HELD_OUT.jsonl [--adapter FOLDER]
        [--spread 0.5] [--limit 250]

Rows have a prompt and a completion. Reported: how often both forms have the same most likely
token, the mean difference of the log probabilities of the texts' tokens, and the share of
rows whose completion starts with the most likely token. `--spread` adds to each weight a random
number of up to so many 4-bit steps: a model that comes from a 4-bit file loses nothing otherwise.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tunesmith.engine.serving.generation import GenerationRequest
from tunesmith.engine.serving.lora import load_adapter
from tunesmith.engine.serving.model_loader import load_base
from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group


def spread(base: Path, target: Path, steps: float) -> None:
    """Write a copy of a model with random numbers added to the weights of its layers."""
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(base / "model.safetensors")
    random = torch.Generator().manual_seed(1)
    for name, weight in tensors.items():
        if name.endswith("proj.weight"):
            groups = weight.float().view(len(weight), -1, 32)
            step = (groups.amax(-1, keepdim=True) - groups.amin(-1, keepdim=True)) / 15
            noise = 2 * torch.rand(groups.shape, generator=random) - 1
            tensors[name] = (groups + steps * step * noise).view(weight.shape).to(weight.dtype)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def scores(base: Path, weights: str, adapter_folder: Path | None, rows: list[dict]) -> list[list]:
    """Return of each row the entries (token, log probability, most likely token) of its text."""
    loaded = load_base(base, base, torch.device("cpu"), torch.bfloat16, weights)
    adapter = load_adapter(adapter_folder, loaded.model) if adapter_folder else None
    entries = []
    for row in rows:
        text = row["prompt"] + row["completion"]
        request = GenerationRequest(
            prompts=[text], max_tokens=0, temperature=0, logprobs=1, echo=True
        )
        scheduler = Scheduler(loaded, SchedulerLimits())
        group = create_sequence_group(0, request, loaded, adapter)
        list(scheduler.add(group))
        while scheduler.busy:
            scheduler.step()
        prompt = len(loaded.tokenizer(row["prompt"])["input_ids"])
        entries.append(
            [
                (entry.token, entry.logprob, entry.top[0][0], place == prompt - 1)
                for place, entry in enumerate(group.sequences[0].prompt_logprobs)
            ]
        )
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--limit", type=int, default=250)
    options = parser.parse_args()
    lines = options.rows.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[: options.limit]]
    with tempfile.TemporaryDirectory() as folder:
        base = options.base
        if options.spread:
            base = Path(folder)
            spread(options.base, base, options.spread)
        plain, rounded = (
            scores(base, weights, options.adapter, rows) for weights in ("unquantized", "int4")
        )
    pairs = [
        pair
        for one, other in zip(plain, rounded, strict=True)
        for pair in zip(one, other, strict=True)
    ]
    same = sum(one[2] == other[2] for one, other in pairs) / len(pairs)
    change = sum(abs(one[1] - other[1]) for one, other in pairs) / len(pairs)
    means = [sum(pair[side][1] for pair in pairs) / len(pairs) for side in (0, 1)]
    right = [
        sum(entry[0] == entry[2] for entries in form for entry in entries if entry[3]) / len(rows)
        for form in (plain, rounded)
    ]
    print(f"{len(rows)} rows, {len(pairs)} tokens: the same most likely token at {same:.1%}")
    print(f"log probability: {means[0]:.3f} and {means[1]:.3f}, {change:.3f} apart on average")
    print(f"completions right: {right[0]:.3f} and {right[1]:.3f}")


if __name__ == "__main__":
    main()
