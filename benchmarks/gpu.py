"""Training and serving on a GPU: the engine beside PEFT, TRL and transformers.

Models have the architecture and the shapes of Qwen3 with random weights and a byte-level
tokenizer, rows have random text of given lengths: nothing is downloaded, and speed and memory
are those of trained weights. Everything computes in bf16.

    training  Recipe `lora` (rank 16, all linear layers); beside it the same adapter by PEFT in a
              plain PyTorch loop, and by TRL's SFTTrainer where it is installed. Tokens per second
              without padding, after warm-up steps.
    serving   The engine's scheduler, with its default limits and with larger ones, and its worker
              process; beside it transformers' `generate` on one batch. Generated tokens per second.

    python benchmarks/gpu.py [--shapes 4B] [--training 512x16 2048x8] [--serving 1 32 128] \
        [--profile] [--budget 540] [--output FOLDER]

Each case runs in a process of its own, within a time limit. One that fails is reported with its
message, and the rest runs on; what the budget has no time for is reported as not run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# hidden size, size of the MLP, layers, attention heads, key-value heads, size of a head,
# whether input and output embeddings are the same
SHAPES: dict[str, tuple[int, int, int, int, int, int, bool]] = {
    "tiny": (64, 128, 2, 4, 2, 16, True),
    "0.6B": (1024, 3072, 28, 16, 8, 128, True),
    "1.7B": (2048, 6144, 28, 16, 8, 128, True),
    "4B": (2560, 9728, 36, 32, 8, 128, True),
    "8B": (4096, 12288, 36, 32, 8, 128, False),
}
VOCABULARY = 151936
CONTEXT = 40960
RANK, ALPHA = 16, 32
RATE = 1e-3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WARMUP_STEPS = 5
PROMPT_TOKENS = 128
TRAINERS = ("tunesmith", "peft", "trl", "trl-checkpointing")
SERVERS = ("default", "large", "sampled", "adapter", "worker", "transformers")
LARGE_SEQUENCES, LARGE_CACHE = 128, 24 << 30


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        kind: "prepare", "training" or "serving".
        shape: The model's shape, a key of SHAPES.
        name: The trainer or the server.
        size: Training: tokens of a row. Serving: requests at a time.
        batch: Training: rows of a step. Serving: tokens to generate for each request.
        spread: Training: share by which rows are longer or shorter.
    """

    kind: str
    shape: str
    name: str
    size: int = 0
    batch: int = 0
    spread: float = 0.1

    def __str__(self) -> str:
        if self.kind == "training":
            mark = "" if self.spread else "="
            return f"{self.shape} training {self.name} {self.size}x{self.batch}{mark}"
        if self.kind == "serving":
            return f"{self.shape} serving {self.name} {self.size}"
        return f"{self.shape} {self.kind}"


# The parent process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="*", default=["4B"], choices=SHAPES)
    parser.add_argument("--trainers", nargs="*", default=TRAINERS[:3], choices=TRAINERS)
    parser.add_argument(
        "--training",
        nargs="*",
        default=["512x16", "2048x8"],
        help="tokens of a row x rows of a step; with = at the end all rows have one length",
    )
    parser.add_argument("--servers", nargs="*", default=SERVERS, choices=SERVERS)
    parser.add_argument("--serving", nargs="*", type=int, default=[1, 32, 128])
    parser.add_argument("--new-tokens", type=int, default=64, help="generated for each request")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured of each training")
    parser.add_argument("--limit", type=float, default=75.0, help="most seconds of a case")
    parser.add_argument("--budget", type=float, default=540.0, help="most seconds of all cases")
    parser.add_argument("--profile", action="store_true", help="also sum the GPU's own time")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the models")
    parser.add_argument("--output", type=Path, default=None, help="folder for gpu.json")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(json.loads(arguments.worker))
        return
    output = arguments.output or Path("build/gpu")
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gpu-", dir=arguments.folder))
    try:
        run_all(arguments, folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_all(arguments: argparse.Namespace, folder: Path, output: Path) -> None:
    deadline = time.monotonic() + arguments.budget
    options = {
        "folder": str(folder),
        "seconds": arguments.seconds,
        "profile": arguments.profile,
    }
    results: list[dict[str, Any]] = []
    broken: set[str] = set()  # shapes without a model
    spare = start_worker(options)
    for case in list(cases(arguments)):
        left = deadline - time.monotonic()
        if case.shape in broken or left < 20:
            reason = "the model was not written" if case.shape in broken else "no time left"
            result = {"status": "not run", "message": reason}
        else:
            worker, spare = spare, None
            # The next process imports its libraries while this one loads its model.
            spare = start_worker(options)
            result = finish(worker, case, min(arguments.limit, left))
        if case.kind == "prepare" and result["status"] != "ok":
            broken.add(case.shape)
        results.append(asdict(case) | result)
        print(line_of(case, result), flush=True)
        report = {"command": sys.argv[1:], "results": results}
        (output / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    spare.kill()
    spare.wait()
    print(table(results))


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    for shape in arguments.shapes:
        yield Case("prepare", shape, "model")
        for size in arguments.training:
            length, batch = map(int, size.removesuffix("=").split("x"))
            spread = 0.0 if size.endswith("=") else 0.1
            for trainer in arguments.trainers:
                yield Case("training", shape, trainer, length, batch, spread)
        most = max(arguments.serving, default=0)
        for count in arguments.serving:
            for server in arguments.servers:
                # The limits matter where there are more requests than they allow.
                if server in {"large", "sampled"} and (count < most or count == 1):
                    continue
                if server in {"adapter", "worker", "transformers"} and count == most > 32:
                    continue
                if server in {"adapter", "worker"} and count == 1:
                    continue
                yield Case("serving", shape, server, count, arguments.new_tokens)


def start_worker(options: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a process that imports the libraries and waits for its case."""
    from tunesmith.engine.training.environment import worker_environment

    return subprocess.Popen(
        # -P, or `import datasets` would find the script beside this one.
        [sys.executable, "-P", __file__, "--worker", json.dumps(options)],
        env=worker_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(worker: subprocess.Popen[str], case: Case, limit: float) -> dict[str, Any]:
    """Give a process its case; return what it measured, or how it failed."""
    started = time.monotonic()
    try:
        out, errors = worker.communicate(json.dumps(asdict(case)) + "\n", timeout=limit)
    except subprocess.TimeoutExpired:
        worker.kill()
        _, errors = worker.communicate()
        return {
            "status": "timeout",
            "message": f"no result in {limit:.0f} s",
            "log": errors[-2000:],
        }
    seconds = round(time.monotonic() - started, 1)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if not lines:
        message = f"the process ended with {worker.returncode}"
        return {"status": "error", "message": message, "log": errors[-2000:], "seconds": seconds}
    return json.loads(lines[-1]) | {"seconds": seconds}


def line_of(case: Case, result: dict[str, Any]) -> str:
    """Return a result as one line."""
    if result["status"] != "ok":
        return f"{case!s:44} {result['status']}: {result.get('message', '')[:300]}"
    names = ("tokens_per_second", "step_ms", "gpu_ms", "peak_gb", "reserved_gb", "seconds")
    shown = [f"{name} {result[name]:,.1f}" for name in names if result.get(name) is not None]
    return f"{case!s:44} {', '.join(shown)}"


def table(results: list[dict[str, Any]]) -> str:
    """Return all results as a table."""
    lines = [f"{'case':44} {'tokens/s':>10} {'ms/step':>9} {'GPU ms':>8} {'peak GB':>8}"]
    for result in results:
        case = Case(**{field.name: result[field.name] for field in dataclasses.fields(Case)})
        if result["kind"] == "prepare":
            continue
        if result["status"] == "ok":
            values = [
                "-" if (value := result.get(name)) is None else f"{value:,.1f}"
                for name in ("tokens_per_second", "step_ms", "gpu_ms", "peak_gb")
            ]
            rest = f"{values[0]:>10} {values[1]:>9} {values[2]:>8} {values[3]:>8}"
        else:
            rest = f"{result['status']}: {result.get('message', '')[:90]}"
        lines.append(f"{case!s:44} {rest}")
    return "\n".join(lines)


# A process with one case


def work(options: dict[str, Any]) -> None:
    """Import, read a case from standard input, measure it, print the result as JSON."""
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints
    import torch
    import transformers

    import tunesmith.engine.serving.scheduler
    import tunesmith.engine.training.run  # noqa: F401

    with contextlib.suppress(ImportError):
        import peft  # noqa: F401

    text = sys.stdin.readline()
    if not text:
        return
    case = Case(**json.loads(text))
    transformers.logging.set_verbosity_error()
    measures: dict[str, Callable[[Case, Bench], dict[str, Any]]] = {
        "prepare": prepare,
        "training": train,
        "serving": serve,
    }
    bench = Bench(Path(options["folder"]), options["seconds"], profile=options["profile"])
    try:
        result = {"status": "ok"} | measures[case.kind](case, bench)
    except Exception as error:  # noqa: BLE001 - how a case fails is its result
        result = failure(error)
    if torch.cuda.is_available() and "reserved_gb" not in result:
        result["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
    report.write(json.dumps(result) + "\n")
    report.flush()


def failure(error: BaseException) -> dict[str, Any]:
    """Return an error as a result: the first cause's message, and whether memory ran out."""
    import torch

    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    memory = any(isinstance(link, torch.OutOfMemoryError) for link in chain)
    message = " <- ".join(f"{type(link).__name__}: {link}" for link in chain)
    log = "".join(traceback.format_exception(error))[-3000:]
    return {"status": "out of memory" if memory else "error", "message": message[:1500], "log": log}


class Bench:
    """What the cases share: folders, the clock, memory and the profiler.

    Args:
        folder: Where models and rows are.
        seconds: How long to measure a training.
        profile: Whether to sum the GPU's time of some steps.
    """

    def __init__(self, folder: Path, seconds: float, *, profile: bool) -> None:
        import torch

        self.folder = folder
        self.seconds = seconds
        self.profile = profile and torch.cuda.is_available()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def model_folder(self, shape: str) -> Path:
        return self.folder / f"qwen3-{shape}"

    def clock(self) -> float:
        """Return the time when the device has done all that it was given."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def reset_peak(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float | None:
        """Return the most bytes in use since `reset_peak`, in GB."""
        import torch

        return torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else None

    @contextlib.contextmanager
    def gpu_time(self, result: dict[str, Any], steps: int) -> Iterator[None]:
        """Add the GPU's own time of one of the `steps` within the block, if profiling."""
        if not self.profile:
            yield
            return
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            yield
            self.clock()
        events = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
        result["gpu_ms"] = sum(event.self_device_time_total for event in events) / 1e3 / steps
        result["kernels"] = sum(event.count for event in events) // steps
        top = sorted(events, key=lambda event: -event.self_device_time_total)[:8]
        result["top"] = [
            [event.key[:90], round(event.self_device_time_total / 1e3 / steps, 2)] for event in top
        ]


def prepare(case: Case, bench: Bench) -> dict[str, Any]:
    """Write a model with random weights, its tokenizer and an adapter."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    from tunesmith.engine.training.lora import AdapterConfig, add_adapter
    from tunesmith.engine.training.split_model import SplitModel

    torch.manual_seed(0)
    with bench.device:
        model = AutoModelForCausalLM.from_config(configuration(case.shape), dtype=torch.bfloat16)
    folder = bench.model_folder(case.shape)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    adapter = add_adapter(SplitModel(model), AdapterConfig(RANK, ALPHA, tuple(TARGETS)))
    (folder / "adapter").mkdir()
    adapter.save(folder / "adapter")
    # Also reads the GPU's libraries from the disk, which would slow the first case.
    tokens = torch.arange(64, device=bench.device)[None]
    model(input_ids=tokens, labels=tokens).loss.backward()
    return {
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def configuration(shape: str) -> Any:
    from transformers import Qwen3Config

    hidden, mlp, layers, heads, kv_heads, head_dim, tied = SHAPES[shape]
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=256,
    )


def write_tokenizer(folder: Path) -> None:
    """Write a byte-level tokenizer: one token a byte, and the rest of the vocabulary unused."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_end|>"]
    names += [f"unused{index}" for index in range(len(names), VOCABULARY)]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # it has no types
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - a special token
        pad_token="<|endoftext|>",  # noqa: S106 - a special token
        model_max_length=CONTEXT,
    )
    fast.save_pretrained(folder)


def rows_of(case: Case, count: int) -> list[dict[str, str]]:
    """Return rows of about the case's length; half of each is completion."""
    least, most = round(case.size * (1 - case.spread)), round(case.size * (1 + case.spread))
    generator = random.Random(0)  # noqa: S311 - the same rows every time
    rows = []
    for _ in range(count):
        tokens = generator.randint(least, most)
        text = "".join(generator.choices("abcdefghijklmnopqrstuvwxyz ", k=tokens))
        rows.append({"prompt": text[: tokens // 2], "completion": text[tokens // 2 :]})
    return rows


# Training


def train(case: Case, bench: Bench) -> dict[str, Any]:
    bench.reset_peak()
    trainers = {
        "tunesmith": train_with_tunesmith,
        "peft": train_with_peft,
        "trl": train_with_trl,
        "trl-checkpointing": train_with_trl,
    }
    return trainers[case.name](case, bench)


def step_count(case: Case, bench: Bench) -> int:
    """Return more steps than a training can do in the time."""
    return WARMUP_STEPS + 2 if case.shape == "tiny" else WARMUP_STEPS + int(12 * bench.seconds)


class Stopwatch:
    """Counts tokens and steps between the last warm-up step and the end of the time."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._steps = 0
        self._start = (0.0, 0)
        self._profiled_until = 0
        self._profiler = contextlib.ExitStack()
        self.result: dict[str, Any] = {}

    def step(self, tokens: int) -> bool:
        """Note the end of a step; return whether to stop.

        Args:
            tokens: Tokens trained so far.
        """
        self._steps += 1
        if self._steps == WARMUP_STEPS:
            self._start = (self._bench.clock(), tokens)
        if self._steps <= WARMUP_STEPS or self.result:
            if self.result and self._steps >= self._profiled_until:
                self._profiler.close()
                return True
            return False
        if time.perf_counter() - self._start[0] < self._bench.seconds:
            return False
        self._finish(tokens)
        if not self._bench.profile:
            return True
        self._profiled_until = self._steps + 3
        self._profiler.enter_context(self._bench.gpu_time(self.result, 3))
        return False

    def finish(self, tokens: int) -> dict[str, Any]:
        """Return the result; `tokens` counts where the training ended before the time did."""
        if not self.result:
            self._finish(tokens)
        return self.result

    def _finish(self, tokens: int) -> None:
        seconds = self._bench.clock() - self._start[0]
        steps = self._steps - WARMUP_STEPS
        self.result |= {
            "tokens_per_second": (tokens - self._start[1]) / seconds,
            "step_ms": seconds / steps * 1e3,
            "steps": steps,
            "peak_gb": self._bench.peak(),
        }


def train_with_tunesmith(case: Case, bench: Bench) -> dict[str, Any]:
    from tunesmith.engine.training import train as train_spec
    from tunesmith.engine.training.spec import TrainingSpec

    stopwatch = Stopwatch(bench)

    class Observer:
        """Takes the time of each step and cancels the training after the last one."""

        done = False
        tokens = 0
        losses: list[float] = []  # noqa: RUF012 - one observer in the process

        def __getattr__(self, _name: str) -> Any:
            return lambda *_arguments: None

        def step(self, record: Any) -> None:
            self.tokens = record.elapsed_tokens
            self.losses.append(record.training_loss)
            self.done = stopwatch.step(record.elapsed_tokens)

        def stop_requested(self) -> str | None:
            return "cancel" if self.done else None

    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        rows = rows_of(case, step_count(case, bench) * case.batch)
        file = folder / "train.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        spec = TrainingSpec(
            job_id="benchmark",
            base_model=case.shape,
            base_path=bench.model_folder(case.shape),
            training_path=file,
            work_path=folder / "work",
            output_path=folder / "model",
            n_epochs=1,
            batch_size=case.batch,
            learning_rate_multiplier=RATE / 5e-4,
            recipe="lora",
            max_tokens=2 * case.size,
            checkpoint_every_seconds=3600,
        )
        observer = Observer()
        train_spec(spec, observer)
    losses = [observer.losses[0], observer.losses[-1]]
    return stopwatch.finish(observer.tokens) | {"losses": losses}


def train_with_peft(case: Case, bench: Bench) -> dict[str, Any]:
    """Train in a plain loop: transformers' own loss, autocast, fused AdamW."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.nn.utils import clip_grad_norm_
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.engine.training.batches import epoch_batches

    folder = bench.model_folder(case.shape)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(bench.device)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(model, config).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    rows = rows_of(case, step_count(case, bench) * case.batch)
    prompts = tokenizer([row["prompt"] for row in rows])["input_ids"]
    completions = tokenizer([row["completion"] for row in rows])["input_ids"]
    lengths = [len(a) + len(b) for a, b in zip(prompts, completions, strict=True)]
    stopwatch = Stopwatch(bench)
    tokens = 0
    for batch in epoch_batches(lengths, case.batch, seed=0, epoch=0):
        longest = max(lengths[index] for index in batch)
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(inputs)
        labels = torch.full_like(inputs, -100)
        for row, index in enumerate(batch):
            length, start = lengths[index], len(prompts[index])
            inputs[row, :length] = torch.tensor(prompts[index] + completions[index])
            mask[row, :length] = 1
            labels[row, start:length] = inputs[row, start:length]
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = model(
                input_ids=inputs.to(bench.device),
                attention_mask=mask.to(bench.device),
                labels=labels.to(bench.device),
                use_cache=False,
            ).loss
        loss.backward()
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += sum(lengths[index] for index in batch)
        if stopwatch.step(tokens):
            break
    return stopwatch.finish(tokens) | {"losses": [float(loss)]}


def train_with_trl(case: Case, bench: Bench) -> dict[str, Any]:
    """Train with SFTTrainer, with or without gradient checkpointing, which is its default."""
    import torch
    import trl
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    folder = bench.model_folder(case.shape)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    steps = step_count(case, bench)
    rows = []
    for row in rows_of(case, steps * case.batch):
        prompt, completion = tokenizer([row["prompt"], row["completion"]])["input_ids"]
        labels = [-100] * len(prompt) + completion
        rows.append({"input_ids": prompt + completion, "labels": labels})
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    stopwatch = Stopwatch(bench)

    class Callback(TrainerCallback):  # type: ignore[misc]  # transformers' hook
        """Takes the time of each step, and stops the training after the last one."""

        def on_step_end(self, _args: Any, state: Any, control: Any, **_rest: Any) -> None:
            done = stopwatch.step(round(state.global_step * case.batch * mean))
            control.should_training_stop = control.should_training_stop or done

    with tempfile.TemporaryDirectory(dir=bench.folder) as output:
        values: dict[str, Any] = {
            "output_dir": output,
            "max_steps": steps,
            "per_device_train_batch_size": case.batch,
            "learning_rate": RATE,
            "max_length": None,
            "dataset_kwargs": {"skip_prepare_dataset": True},  # the rows are token ids
            "bf16": True,
            "use_cpu": bench.device.type == "cpu",
            "gradient_checkpointing": case.name == "trl-checkpointing",
            "optim": "adamw_torch_fused",
            "train_sampling_strategy": "group_by_length",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "logging_strategy": "no",
        }
        known = {field.name for field in dataclasses.fields(trl.SFTConfig)}
        trainer = trl.SFTTrainer(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16),
            # A given fingerprint, because datasets cannot compute one with every pyarrow.
            train_dataset=Dataset(InMemoryTable.from_pylist(rows), fingerprint="rows"),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM"
            ),
            args=trl.SFTConfig(**{name: values[name] for name in values.keys() & known}),
            callbacks=[Callback()],
        )
        trainer.train()
    tokens = round(trainer.state.global_step * case.batch * mean)
    return stopwatch.finish(tokens) | {"version": trl.__version__}


# Serving


def serve(case: Case, bench: Bench) -> dict[str, Any]:
    generator = random.Random(0)  # noqa: S311 - the same prompts every time
    prompts = [[generator.randrange(256) for _ in range(PROMPT_TOKENS)] for _ in range(case.size)]
    if case.name == "transformers":
        return serve_with_transformers(case, bench, prompts)
    if case.name == "worker":
        return asyncio.run(serve_with_worker(case, bench, prompts))
    return serve_with_scheduler(case, bench, prompts)


def servable(case: Case, bench: Bench) -> Any:
    from tunesmith.engine.models.model_info import ServableModel

    folder = bench.model_folder(case.shape)
    adapter = folder / "adapter" if case.name == "adapter" else None
    return ServableModel(case.shape, case.shape, folder, adapter)


def request_of(case: Case, prompt: list[int], new_tokens: int) -> Any:
    from tunesmith.engine.serving import GenerationRequest

    temperature = 1.0 if case.name == "sampled" else 0.0
    return GenerationRequest(prompts=[prompt], max_tokens=new_tokens, temperature=temperature)


def serve_with_scheduler(case: Case, bench: Bench, prompts: list[list[int]]) -> dict[str, Any]:
    """Generate as the engine's worker process does, in this process."""
    import torch

    from tunesmith.engine.models.devices import best_dtype
    from tunesmith.engine.serving import WorkerSettings
    from tunesmith.engine.serving.model_store import ModelStore
    from tunesmith.engine.serving.model_worker import CPU_PREFILL_TOKENS, GPU_PREFILL_TOKENS
    from tunesmith.engine.serving.scheduler import (
        Scheduler,
        SchedulerLimits,
        create_sequence_group,
    )

    settings = WorkerSettings()
    if case.name in {"large", "sampled"}:
        settings = WorkerSettings(max_sequences=LARGE_SEQUENCES, cache_bytes=LARGE_CACHE)
    is_cuda = bench.device.type == "cuda"
    store = ModelStore(
        budget=1 << 40,
        device=bench.device,
        dtype=best_dtype(bench.device, gpu_fallback=torch.float16),
        is_busy=lambda _base: False,
        on_unload=lambda _base: None,
    )
    base, adapter = store.get(servable(case, bench))
    scheduler = Scheduler(
        base,
        SchedulerLimits(
            max_sequences=settings.max_sequences,
            max_prefill_tokens=GPU_PREFILL_TOKENS if is_cuda else CPU_PREFILL_TOKENS,
            cache_bytes=settings.cache_bytes,
        ),
    )

    def add(new_tokens: int) -> None:
        for number, prompt in enumerate(prompts):
            request = request_of(case, prompt, new_tokens)
            list(scheduler.add(create_sequence_group(number, request, base, adapter)))

    def steps(most: int | None = None) -> tuple[int, int]:
        """Return how many steps were done, and how many tokens of finished requests came."""
        tokens = count = 0
        while scheduler.busy and count != most:
            for _number, delta in scheduler.step():
                tokens += 0 if delta.usage is None else delta.usage.completion_tokens
            count += 1
        return count, tokens

    add(8)
    steps()
    bench.reset_peak()
    started = bench.clock()
    add(case.batch)
    count, tokens = steps()
    seconds = bench.clock() - started
    result = {
        "tokens_per_second": tokens / seconds,
        "step_ms": seconds / count * 1e3,
        "steps": count,
        "tokens": tokens,
        "peak_gb": bench.peak(),
    }
    if bench.profile:
        add(case.batch)
        steps(10)
        with bench.gpu_time(result, 5):
            steps(5)
    return result


async def serve_with_worker(case: Case, bench: Bench, prompts: list[list[int]]) -> dict[str, Any]:
    """Generate through the engine's worker process, with its default settings."""
    import torch

    from tunesmith.engine.serving import create_local_backend

    backend = create_local_backend()
    model = servable(case, bench)

    async def generate(prompt: list[int], new_tokens: int) -> int:
        tokens = 0
        async for delta in backend.generate(model, request_of(case, prompt, new_tokens)):
            tokens += 0 if delta.usage is None else delta.usage.completion_tokens
        return tokens

    try:
        await backend.load(model)
        await asyncio.gather(*(generate(prompt, 8) for prompt in prompts))
        started = time.perf_counter()
        tokens = sum(await asyncio.gather(*(generate(prompt, case.batch) for prompt in prompts)))
        seconds = time.perf_counter() - started
        used = None
        with contextlib.suppress(Exception):  # where NVML cannot be asked
            used = torch.cuda.device_memory_used() / 1e9
    finally:
        await backend.stop()
    return {
        "tokens_per_second": tokens / seconds,
        "tokens": tokens,
        "peak_gb": None,
        "reserved_gb": used,
    }


def serve_with_transformers(case: Case, bench: Bench, prompts: list[list[int]]) -> dict[str, Any]:
    """Generate with transformers on one batch of prompts of the same length."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = bench.model_folder(case.shape)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model = model.eval().to(bench.device)
    inputs = torch.tensor(prompts, device=bench.device)

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
    tokens = generate(case.batch)
    seconds = bench.clock() - started
    return {
        "tokens_per_second": tokens / seconds,
        "step_ms": seconds / case.batch * 1e3,
        "tokens": tokens,
        "peak_gb": bench.peak(),
    }


if __name__ == "__main__":
    main()
