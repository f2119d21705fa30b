"""One training in one process, and shared by several: the same losses, and memory per process.

    python benchmarks/shared_training.py [--launchers torchrun ray] [--recipes full lora]
        [--processes 2] [--width 1024] [--layers 8]

A wide Llama with random weights trains in 32 bits on a processor. Reported for each way: the
losses against those of one process, and the most memory that a process had of its own (anonymous
pages, sampled), less what it had once the libraries were loaded; the largest of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.02


class Memory(threading.Thread):
    """Keeps the most memory that this process has had of its own in a file, as it grows."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.most = own_bytes()

    def run(self) -> None:
        path = Path(os.environ["TUNESMITH_MEMORY"]) / f"{os.getpid()}.json"
        while True:  # the process may be ended at any time
            now = own_bytes()
            if now > self.most:
                self.most = now
                temporary = path.with_suffix(".new")
                temporary.write_text(json.dumps({"before": self.before, "most": self.most}))
                temporary.replace(path)
            time.sleep(SAMPLE_SECONDS)


def own_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def measured(work: Any) -> Any:
    """Return the result of `work`, computed in 32 bits while memory is watched."""
    import torch
    import torch.distributed.checkpoint
    import torch.distributed.fsdp

    from tunesmith.engine.training import preparation

    preparation.best_dtype = lambda _device: torch.float32
    Memory().start()
    return work()


def train_worker(config: dict[str, Any]) -> None:
    """Run as one of Ray's workers."""
    from tunesmith.engine.jobs import ray_training

    measured(lambda: ray_training.train_worker(config))


class Losses:
    """Keeps the losses that a training reports."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, record: Any) -> None:
        self.losses.append(record.training_loss)

    def stop_requested(self) -> None:
        return None

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments: None


def write_model(folder: Path, width: int, layers: int) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.testing import write_tiny_model

    write_tiny_model(folder)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        vocab_size=vocabulary,
        max_position_embeddings=256,
    )
    for file in folder.glob("*.safetensors"):
        file.unlink()
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def run(options: argparse.Namespace) -> None:
    """Train in the way that is asked for, in this process or from it; print the losses."""
    from tunesmith.engine.config import RayConfig
    from tunesmith.engine.jobs import ray_training, torchrun_training
    from tunesmith.engine.training.spec import TrainingSpec

    spec = TrainingSpec.model_validate_json(options.spec)
    observer: Any = Losses()
    if options.way == "alone":
        from tunesmith.engine.training.run import run as train

        measured(lambda: train(spec, observer))
    elif options.way == "torchrun":
        torchrun_training.__name__ = Path(__file__).stem
        torchrun_training.train_with_torchrun(spec, observer, options.processes)
    else:
        sys.path.insert(0, str(Path(__file__).parent))
        import shared_training

        ray_training.train_worker = shared_training.train_worker
        ray_training.train_on_ray(spec, observer, RayConfig(workers=options.processes))
    print(json.dumps(observer.losses))


def in_a_process(options: argparse.Namespace, way: str, spec: Any, folder: Path) -> Any:
    from tunesmith.engine.training.environment import worker_environment

    memory = folder / "memory"
    memory.mkdir(parents=True)
    environment = worker_environment(threads=options.processes)
    environment |= {"TUNESMITH_MEMORY": str(memory), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, __file__, "--way", way, "--spec", spec.model_dump_json()]
    command += ["--processes", str(options.processes)]
    started = time.monotonic()
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if output.returncode:
        raise SystemExit(output.stderr)
    seconds = time.monotonic() - started
    peaks = [json.loads(path.read_text()) for path in memory.glob("*.json")]
    most = max(peak["most"] - peak["before"] for peak in peaks)
    return json.loads(output.stdout.strip().splitlines()[-1]), most, len(peaks), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--launchers", nargs="+", default=["torchrun", "ray"])
    parser.add_argument("--recipes", nargs="+", default=["full", "lora"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--spec", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run(options)
        return
    from tunesmith.engine.training.spec import TrainingSpec

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = write_model(folder / "base", options.width, options.layers)
        rows = folder / "rows.jsonl"
        texts = [f"I like the {thing} number {n} ->" for n in range(4) for thing in "abcd"]
        lines = [json.dumps({"prompt": text, "completion": " positive"}) for text in texts]
        rows.write_text("\n".join(lines))
        print(f"{'recipe':7} {'way':9} {'processes':>9} {'GB each':>8} {'ratio':>6} {'losses':>9}")
        for recipe in options.recipes:
            first: tuple[list[float], int] | None = None
            for way in ("alone", *options.launchers):
                place = folder / f"{recipe}-{way}"
                spec = TrainingSpec(
                    job_id="benchmark",
                    base_model="base",
                    base_path=base,
                    training_path=rows,
                    work_path=place / "work",
                    output_path=place / "model",
                    n_epochs=1,
                    batch_size=4,
                    recipe=recipe,
                    threads=options.processes,
                    path="fast",
                    checkpoint_every_seconds=3600,
                )
                losses, most, count, seconds = in_a_process(options, way, spec, place)
                first = first or (losses, most)
                pairs = zip(losses, first[0], strict=True)
                apart = max(abs(a - b) / abs(b) for a, b in pairs)
                print(
                    f"{recipe:7} {way:9} {count:9} {most / 1e9:8.2f} {most / first[1]:6.2f} "
                    f"{apart:9.1e}  ({len(losses)} steps, {seconds:.0f} s)",
                    flush=True,
                )


if __name__ == "__main__":
    if "RANK" in os.environ:  # started by torchrun
        from tunesmith.engine.jobs.torchrun_training import main as torchrun_main

        measured(torchrun_main)
    else:
        main()
