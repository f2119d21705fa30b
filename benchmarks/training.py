"""Training speed on the processor: tunesmith's recipes against TRL's SFTTrainer.

Same base model, same prompt-completion rows, same rank (16), batch, epochs and learning
rate; each trainer at the settings that its documentation gives for such data on a
processor. Reported: real tokens (no padding) per second of processor time from the call
that reads the data to the written adapter, and the exact-token accuracy on held-out rows.

    python benchmarks/training.py --base FOLDER --train TRAIN.jsonl --held-out HELD_OUT.jsonl \
        [--peer-python PYTHON_WITH_TRL] [--before SRC] [--rounds 1] [--epochs 2]

Each trainer runs in a process of its own, with the same environment (one thread, no
spinning, kept memory), so that the peer has the benefit of it too. With `--before`, a checkout's
`src` folder, each recipe of that state is measured in turn with this one's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

BATCH = 16
RATE = 1e-3
RANK = 16


class Run(NamedTuple):
    """What is measured: a trainer, the interpreter it runs in, and where tunesmith is from."""

    label: str
    trainer: str
    python: str
    source: Path | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--peer-python", default=None)
    parser.add_argument("--before", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=("fast", "lora", "trl"), default=None)
    parser.add_argument("--output", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.output is not None:
        print(json.dumps(measured(arguments)))
        return
    planned = [run for run in runs(arguments) if arguments.only in {None, run.trainer}]
    rows: dict[str, list[dict]] = {run.label: [] for run in planned}
    for number in range(arguments.rounds):
        # The order changes: the same state is some percent slower in one place than in another.
        for run in planned if number % 2 == 0 else reversed(planned):
            rows[run.label].append(in_a_process(run, arguments))
    first = median(row["tokens_per_cpu_second"] for row in rows[planned[0].label])
    print(f"{'trainer':12} {'tokens/CPU-s':>12} {'ratio':>6} {'accuracy':>9} {'RSS':>9}  CPU s")
    for label, measurements in rows.items():
        speed = median(row["tokens_per_cpu_second"] for row in measurements)
        right = median(row["accuracy"] for row in measurements)
        peak = median(row["peak_megabytes"] for row in measurements)
        seconds = " ".join(f"{row['cpu_seconds']:.1f}" for row in measurements)
        print(
            f"{label:12} {speed:12.0f} {speed / first:6.2f} {right:9.3f} {peak:6.0f} MB  {seconds}"
        )


def runs(arguments: argparse.Namespace) -> list[Run]:
    """Return what to measure, in its order within a round."""
    result = []
    if arguments.peer_python:
        result.append(Run("trl", "trl", arguments.peer_python))
    for recipe in ("lora", "fast"):
        if arguments.before:
            result.append(Run(f"{recipe} before", recipe, sys.executable, arguments.before))
        result.append(Run(recipe, recipe, sys.executable))
    return result


def in_a_process(run: Run, arguments: argparse.Namespace) -> dict:
    from tunesmith.engine.training.environment import worker_environment

    with tempfile.TemporaryDirectory() as folder:
        command = [run.python, "-P", __file__, "--only", run.trainer, "--output", folder]
        command += ["--base", str(arguments.base), "--train", str(arguments.train)]
        command += ["--held-out", str(arguments.held_out), "--epochs", str(arguments.epochs)]
        environment = worker_environment(threads=1)
        if run.source is not None:
            environment["PYTHONPATH"] = str(run.source.resolve())
        finished = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    row = json.loads(finished.stdout.strip().splitlines()[-1])
    print(run.label, json.dumps(row), file=sys.stderr, flush=True)
    return row


def measured(arguments: argparse.Namespace) -> dict:
    """Train with one trainer in this process; return its results."""
    import resource

    train = with_trl if arguments.only == "trl" else with_tunesmith
    tokens, cpu, wall = train(arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "name": arguments.only,
        "tokens": tokens,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "tokens_per_cpu_second": tokens / cpu,
        "peak_megabytes": peak,
        "accuracy": accuracy(arguments.base, arguments.output / "adapter", arguments.held_out),
    }


def with_tunesmith(arguments: argparse.Namespace) -> tuple[int, float, float]:
    import peft  # noqa: F401 - imports are outside of the clock, for both trainers

    from tunesmith.engine.training.run import run
    from tunesmith.engine.training.spec import TrainingSpec

    class Silent:
        def __getattr__(self, _name: str) -> object:
            return lambda *_arguments: None

    # As in a job: the engine proves a model once, before its first job; see `model_proof`.
    proven = {"path": "fast"} if "path" in TrainingSpec.model_fields else {}
    spec = TrainingSpec(
        **proven,
        job_id="benchmark",
        base_model=arguments.base.name,
        base_path=arguments.base,
        training_path=arguments.train,
        work_path=arguments.output / "work",
        output_path=arguments.output / "adapter",
        n_epochs=arguments.epochs,
        batch_size=BATCH,
        learning_rate_multiplier=RATE / 5e-4,
        recipe=arguments.only,
        threads=1,
    )
    cpu, wall = time.process_time(), time.monotonic()
    outcome = run(spec, Silent())
    return outcome.trained_tokens, time.process_time() - cpu, time.monotonic() - wall


def with_trl(arguments: argparse.Namespace) -> tuple[int, float, float]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    rows = [json.loads(line) for line in arguments.train.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(arguments.base)
    tokens = sum(
        len(tokenizer(row[key]).input_ids) for row in rows for key in ("prompt", "completion")
    )
    tokens += len(rows)  # TRL ends each row with a token of its own
    cpu, wall = time.process_time(), time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.bfloat16)
    trainer = SFTTrainer(
        model,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        args=SFTConfig(
            output_dir=str(arguments.output / "peer"),
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            warmup_steps=round(0.06 * arguments.epochs * len(rows) / BATCH),
            lr_scheduler_type="linear",
            completion_only_loss=True,
            bf16=True,
            use_cpu=True,
            gradient_checkpointing=False,
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        ),
    )
    trainer.train()
    trainer.save_model(str(arguments.output / "adapter"))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return tokens * arguments.epochs, cpu, wall


def accuracy(base: Path, adapter: Path, held_out: Path) -> float:
    """Return the share of held-out rows whose likeliest next token is the completion's first."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(model, adapter).eval()
    rows = [json.loads(line) for line in held_out.read_text().splitlines()]
    right = 0
    for row in rows:
        with torch.no_grad():
            logits = model(**tokenizer(row["prompt"], return_tensors="pt")).logits[0, -1]
        right += int(logits.argmax()) == tokenizer(row["completion"]).input_ids[0]
    return right / len(rows)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
