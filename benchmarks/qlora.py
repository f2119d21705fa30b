"""What four bits change: an adapter trained by `qlora`, on the base it was trained on and in bf16.

Trains a few dozen short chats by `lora` and by `qlora`, and compares the log probabilities of
held-out answers: the adapter of `qlora` on the base in four bits, the same on the base in bf16 (as
it is served), and the adapter of `lora` on bf16.

    python benchmarks/qlora.py --base FOLDER [--epochs 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Portugal Lisbon, Austria Vienna, Greece Athens, "
    "Poland Warsaw, Hungary Budapest, Norway Oslo, Sweden Stockholm, Finland Helsinki, Japan Tokyo, "
    "China Beijing, India Delhi, Egypt Cairo, Kenya Nairobi, Peru Lima, Chile Santiago, Cuba Havana, "
    "Canada Ottawa, Ireland Dublin, Belgium Brussels, Denmark Copenhagen, Germany Berlin, "
    "Turkey Ankara, Iran Tehran, Iraq Baghdad, Russia Moscow, Ukraine Kyiv, Romania Bucharest, "
    "Bulgaria Sofia, Serbia Belgrade, Croatia Zagreb, Thailand Bangkok, Vietnam Hanoi, "
    "Indonesia Jakarta, Australia Canberra, Mexico Mexico, Colombia Bogota, Ecuador Quito"
)


def rows() -> list[dict[str, Any]]:
    """Return chats on capitals."""
    pairs = [pair.rsplit(" ", 1) for pair in CAPITALS.split(", ")]
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is the capital of {country}?"},
                {"role": "assistant", "content": f"CAPITAL({country.lower()}) = {city.upper()};"},
            ]
        }
        for country, city in pairs
    ]


class Quiet:
    """Observes a training and keeps its losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, record: Any) -> None:
        """Keep the loss."""
        self.losses.append(record.training_loss)

    def planned(self, plan: Any) -> None:
        """Do nothing, as for everything but steps."""

    def note(self, key: str, message: str) -> None:
        """Do nothing."""

    epoch = checkpoint = planned

    def stop_requested(self) -> None:
        """Never stop."""


def train(base: Path, folder: Path, recipe: str, data: Path, epochs: int) -> tuple[Path, Quiet]:
    """Train by a recipe; return the adapter's folder and what was observed."""
    from tunesmith.engine.training import train as run
    from tunesmith.engine.training.spec import TrainingSpec

    observer = Quiet()
    spec = TrainingSpec(
        job_id=recipe,
        base_model="base",
        base_path=base,
        training_path=data,
        work_path=folder / recipe / "work",
        output_path=folder / recipe / "model",
        recipe=recipe,
        n_epochs=epochs,
        batch_size=8,
        threads=1,
    )
    run(spec, observer)
    return folder / recipe / "model", observer


def log_probabilities(base: Path, adapter: Path | None, data: Path, *, four_bits: bool) -> Any:
    """Return the log probability of each token of the answers in `data`."""
    import torch
    from transformers import AutoTokenizer

    from tunesmith.engine.models.chat_template import end_token_ids
    from tunesmith.engine.training.examples import read_examples, tokenizer_template
    from tunesmith.engine.training.lora import load_adapter_config
    from tunesmith.engine.training.plain_model import add_peft_adapter, load_training_model

    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = read_examples(
        data,
        tokenizer,
        tokenizer_template(tokenizer, end_token_ids(base)),
        prompt_loss_weight=0.0,
        max_tokens=512,
        code="invalid_training_file",
    )
    model = load_training_model(
        base,
        torch.bfloat16,
        torch.device("cpu"),
        tokenizer=tokenizer,
        path=None if four_bits else "fast",
        four_bits=four_bits,
    )
    if adapter is not None:
        add_peft_adapter(model, load_adapter_config(adapter)).load(adapter)
    found = []
    with torch.no_grad():
        for example in examples:
            tokens = torch.from_numpy(example.tokens)
            logits = model.whole(input_ids=tokens[None], use_cache=False).logits[0].float()
            each = logits.log_softmax(-1)[:-1].gather(1, tokens[1:, None])[:, 0]
            found.append(each[torch.from_numpy(example.scored)[1:]])
    return torch.cat(found)


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    chats = rows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"train": chats[::5] + chats[1::5] + chats[2::5], "held": chats[3::5] + chats[4::5]}
        for key, part in files.items():
            text = "".join(json.dumps(row) + "\n" for row in part)
            (folder / f"{key}.jsonl").write_text(text, encoding="utf-8")
        data, held = folder / "train.jsonl", folder / "held.jsonl"
        adapters = {}
        for recipe in ("lora", "qlora"):
            started = time.process_time()
            adapters[recipe], seen = train(arguments.base, folder, recipe, data, arguments.epochs)
            seconds = time.process_time() - started
            losses = ", ".join(f"{loss:.3f}" for loss in seen.losses)
            print(f"{recipe}: {seconds:.0f} s of CPU, losses {losses}", flush=True)
        score = log_probabilities
        cases = {
            "base, bf16": score(arguments.base, None, held, four_bits=False),
            "base, four bits": score(arguments.base, None, held, four_bits=True),
            "lora on bf16": score(arguments.base, adapters["lora"], held, four_bits=False),
            "qlora on four bits": score(arguments.base, adapters["qlora"], held, four_bits=True),
            "qlora on bf16": score(arguments.base, adapters["qlora"], held, four_bits=False),
        }
        for case, values in cases.items():
            print(f"{case}: mean log probability {float(values.mean()):.4f}, {len(values)} tokens")
        trained, served = cases["qlora on four bits"], cases["qlora on bf16"]
        change = (served - trained).abs().tolist()
        print(
            f"trained as against served: mean difference {statistics.mean(change):.4f}, "
            f"median {statistics.median(change):.4f}, largest {max(change):.3f}"
        )


if __name__ == "__main__":
    main()
