"""Cases of the GPU benchmark that train: the engine, PEFT in a plain loop, TRL."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_inputs import ALPHA, RANK, RATE, TARGETS, rows_of

if TYPE_CHECKING:
    from gpu_inputs import Bench, Case

WARMUP_STEPS = 3


def train(case: Case, bench: Bench) -> dict[str, Any]:
    bench.reset_peak()
    program = case.name.partition("-")[0]
    trainers = {
        "tunesmith": train_with_tunesmith,
        "peft": train_with_peft,
        "trl": train_with_trl,
    }
    return trainers[program](case, bench)


def step_count(case: Case, bench: Bench) -> int:
    """Return more steps than a training can do in the time."""
    return WARMUP_STEPS + 2 if case.shape == "tiny" else WARMUP_STEPS + int(6 * bench.seconds)


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
            recipe="qlora" if case.name.endswith("qlora") else "lora",
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
    """Train with SFTTrainer on PEFT, with Liger's kernels where they are installed.

    "trl-lora" and "trl-qlora" keep its default of gradient checkpointing, which "trl-plain" (LoRA)
    does without.
    """
    import importlib.util

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
    has_liger = importlib.util.find_spec("liger_kernel") is not None and bench.is_gpu
    options: dict[str, Any] = {"dtype": torch.bfloat16}
    if case.name == "trl-qlora":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        )
        options["device_map"] = {"": bench.device}

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
            "gradient_checkpointing": case.name != "trl-plain",
            "use_liger_kernel": has_liger,
            "optim": "adamw_torch_fused",
            "train_sampling_strategy": "group_by_length",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "logging_strategy": "no",
        }
        known = {field.name for field in dataclasses.fields(trl.SFTConfig)}
        trainer = trl.SFTTrainer(
            AutoModelForCausalLM.from_pretrained(folder, **options),
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
    return stopwatch.finish(tokens) | {"version": trl.__version__, "liger": has_liger}
