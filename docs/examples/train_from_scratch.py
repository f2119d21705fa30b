"""A whole fine-tune without a server: rows in, a LoRA adapter and an answer out.

    python docs/examples/train_from_scratch.py                          # a tiny model, seconds
    python docs/examples/train_from_scratch.py --base FOLDER --data rows.jsonl

It uses the parts of `tunesmith.engine.training` that the engine's jobs use, in the order in
which they use them. A job adds checkpoints, a result file, classification metrics and the
choice of a recipe; see `tunesmith/engine/training/run.py`.

Needs: pip install 'tunesmith[engine]'.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.engine.models.devices import best_dtype, pick_device
from tunesmith.engine.training.batches import epoch_batches
from tunesmith.engine.training.examples import read_examples
from tunesmith.engine.training.hyperparameters import learning_rate_at
from tunesmith.engine.training.lora import AdapterConfig, add_adapter
from tunesmith.engine.training.loss import ExampleSet, LossComputation
from tunesmith.engine.training.memory_limit import MemoryLimit
from tunesmith.engine.training.split_model import load_split_model
from tunesmith.engine.training.supervised import Supervised
from tunesmith.testing import write_tiny_model


@dataclass(frozen=True)
class Config:
    """Settings; each is an option of the command line."""

    base: str = ""  # folder of a causal language model in safetensors; "" for a tiny one
    data: str = ""  # JSONL with prompt-completion rows or chats; "" for a toy task
    output: str = ""  # folder for the adapter; "" for a temporary one
    prompt: str = "I love this phone ->"  # asked at the end
    n_epochs: int = 6
    batch_size: int = 8
    learning_rate: float = 2e-2  # a real model wants about 1e-3
    rank: int = 16
    alpha: float = 32.0
    held_out: float = 0.2  # share of the examples to validate on
    seed: int = 0


def main(config: Config) -> tuple[float, float, str]:
    """Train; return the first and the last validation loss, and the answer to the prompt."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(config.base) if config.base else write_tiny_model(Path(temporary) / "tiny")
        data = Path(config.data) if config.data else write_toy_rows(Path(temporary) / "toy.jsonl")
        output = Path(config.output or Path(temporary) / "adapter")
        return train(config, base, data, output)


def train(config: Config, base: Path, data: Path, output: Path) -> tuple[float, float, str]:
    """Train the model in `base` on the rows in `data`, and write the adapter to `output`."""
    device = pick_device()
    model = load_split_model(base, best_dtype(device), device)
    tokenizer = AutoTokenizer.from_pretrained(base)

    # Rows become token ids, each with its weight in the loss: 1 for completions, 0 for prompts.
    examples = read_examples(data, tokenizer)
    held_out = max(1, round(len(examples) * config.held_out))
    train_set, validation_set = ExampleSet(examples[held_out:]), ExampleSet(examples[:held_out])
    print(f"{len(train_set.examples)} examples to learn from, {held_out} to validate on")

    adapter = add_adapter(
        model,
        AdapterConfig(config.rank, config.alpha, model.linear_names()),
        base_name=base.name,
        seed=config.seed,
    )
    parameters = adapter.parameters().values()
    limit = MemoryLimit(model.layers, tokens=4096)  # of a batch, what goes through at a time
    objective = Supervised(LossComputation(model, limit), train_set, validation_set)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)

    first_loss = objective.validate_all()[0].loss
    total_steps = config.n_epochs * math.ceil(len(train_set.examples) / config.batch_size)
    step = 0
    for epoch in range(config.n_epochs):
        # Seed and epoch alone decide the order, so a killed training could repeat it.
        batches = epoch_batches(objective.lengths, config.batch_size, seed=config.seed, epoch=epoch)
        for indices in batches:
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, total_steps, config.learning_rate)
            # Forward and backward at once: the logits of a few positions exist at a time.
            metrics = objective.backward(indices)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        validation, _ = objective.validate_all()
        print(
            f"epoch {epoch + 1:2}  step {step:3}  training loss {metrics.loss:.3f}  "
            f"validation loss {validation.loss:.3f}  accuracy {validation.sequence_accuracy:.2f}"
        )

    # PEFT's folder format: transformers, PEFT and vLLM load it unchanged.
    output.mkdir(parents=True, exist_ok=True)
    adapter.save(output)
    answer = generate(base, output, config.prompt)
    print(f"{config.prompt!r} → {answer!r}")
    return first_loss, validation.loss, answer


def generate(base: Path, adapter: Path, prompt: str) -> str:
    """Return the adapted model's most likely continuation of a prompt."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)  # (1, length)
    text = str(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :]))
    return text.partition("\n")[0]  # the stop sequence of the toy rows


def write_toy_rows(path: Path) -> Path:
    """Write rows that a tiny model can learn: the verb decides the class."""
    things = ("phone", "game", "day", "city", "soap", "story", "name", "ice")
    classes = {"love": " positive\n", "hate": " negative\n"}
    rows = [
        {"prompt": f"I {verb} {which} {thing} ->", "completion": completion}
        for thing in things
        for which in ("this", "the", "your")
        for verb, completion in classes.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in fields(Config):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    main(Config(**vars(parser.parse_args())))
