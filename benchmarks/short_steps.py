"""The first job that people run: a few dozen short rows, one row a step, on the processor.

Reported for `lora` and `fast`: processor time and wall time of a step (medians), the products of
the layers' weights with as many tokens as a step has, forward and backward (the floor), and the
mean loss of the last quarter of the steps. With `--before`, a checkout's
`src` folder of another state is measured in turn with this one.

    python benchmarks/short_steps.py --base FOLDER [--before SRC] [--rows 30] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

WORDS = "the good bad movie was great awful film I loved it hated plot acting never again best"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--before", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--recipe", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.recipe is not None:
        print(json.dumps(measured(arguments)))
        return
    states = {"this": None} if arguments.before is None else {"before": arguments.before}
    states["this"] = None
    print(f"{'recipe':7} {'state':7} {'CPU ms':>7} {'wall ms':>8} {'floor':>6} {'loss':>6}")
    for _ in range(arguments.rounds):
        for recipe in ("lora", "fast"):
            for state, source in states.items():
                row = in_a_process(arguments, recipe, source)
                print(
                    f"{recipe:7} {state:7} {row['cpu']:7.0f} {row['wall']:8.0f} "
                    f"{row['floor']:6.0f} {row['loss']:6.3f}",
                    flush=True,
                )


def in_a_process(arguments: argparse.Namespace, recipe: str, source: Path | None) -> dict:
    from tunesmith.engine.training.environment import worker_environment

    environment = worker_environment(threads=1)
    if source is not None:
        environment["PYTHONPATH"] = str(source)
        settings = (source / "tunesmith/engine/training/environment.py").read_text(encoding="utf-8")
        if "GLIBC_TUNABLES" not in settings:  # an environment is part of the state
            environment.pop("GLIBC_TUNABLES", None)
    command = [sys.executable, __file__, "--base", str(arguments.base), "--recipe", recipe]
    command += ["--rows", str(arguments.rows)]
    finished = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(finished.stdout.strip().splitlines()[-1])


def measured(arguments: argparse.Namespace) -> dict:
    """Train in this process; return medians in milliseconds."""
    from tunesmith.engine.training.run import run
    from tunesmith.engine.training.spec import TrainingSpec

    class Clock:
        """Keeps the time at the end of each step, and its loss."""

        def __init__(self) -> None:
            self.steps: list[tuple[float, float, float]] = []

        def step(self, record: object) -> None:
            loss: float = record.training_loss  # type: ignore[attr-defined]
            self.steps.append((time.process_time(), time.monotonic(), loss))

        def __getattr__(self, _name: str) -> object:
            return lambda *_arguments: None

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        spec = TrainingSpec(
            job_id="benchmark",
            base_model=arguments.base.name,
            base_path=arguments.base,
            training_path=written(Path(folder), arguments.rows),
            work_path=Path(folder) / "work",
            output_path=Path(folder) / "adapter",
            n_epochs=1,
            batch_size=1,
            recipe=arguments.recipe,
            threads=1,
            checkpoint_every_seconds=3600,
        )
        run(spec, clock)
    kept = clock.steps[3:]  # the first ones make their kernels
    pairs = list(pairwise(kept))
    return {
        "cpu": 1000 * statistics.median(b[0] - a[0] for a, b in pairs),
        "wall": 1000 * statistics.median(b[1] - a[1] for a, b in pairs),
        "loss": statistics.mean(step[2] for step in kept[-len(kept) // 4 :]),
        "floor": floor(arguments.base, 0.2 if arguments.recipe == "fast" else 1.0),
    }


def written(folder: Path, rows: int) -> Path:
    shuffler = random.Random(0)  # noqa: S311 - the same rows every time
    path = folder / "train.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            prompt = " ".join(shuffler.choices(WORDS.split(), k=shuffler.randint(8, 18)))
            label = shuffler.choice([" positive", " negative"])
            file.write(json.dumps({"prompt": f"{prompt} ->", "completion": label}) + "\n")
    return path


def floor(base: Path, share: float, tokens: int = 18) -> float:
    """Return the milliseconds of the products with the plain weights of a share of the layers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    layers = [m for m in model.base_model.modules() if isinstance(m, torch.nn.Linear)]
    weights = [m.weight.detach() for m in layers[: round(len(layers) * share)]]
    inputs = {width: torch.randn(tokens, width).bfloat16() for w in weights for width in w.shape}
    times = []
    for _ in range(8):
        start = time.process_time()
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)
            inputs[weight.shape[0]] @ weight
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
