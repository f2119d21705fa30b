"""What the engine computes with a model, against plain transformers and PEFT, in float32."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.serving.generation import GenerationRequest
from tunesmith.engine.training.spec import TrainingSpec

ROWS = [
    {"prompt": "I love this phone ->", "completion": " positive END"},
    {"prompt": "I hate this ->", "completion": " negative"},
    {"prompt": "what a great day on the ice, a hockey game ->", "completion": " positive"},
]
TEXTS = ["what a great day, I love this phone ->", "I hate", "the puck went past the goalie"]
TOLERANCE = 1e-4


@dataclass
class Recorder:
    """Keeps what a training reports."""

    plans: list[Any] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)

    def planned(self, plan: Any) -> None:
        self.plans.append(plan)

    def note(self, key: str, message: str) -> None:
        self.notes.append((key, message))

    def step(self, record: Any) -> None:
        self.steps.append(record)

    def epoch(self, record: Any) -> None:
        pass

    def checkpoint(self, record: Any) -> None:
        pass

    def stop_requested(self) -> None:
        return None


def train(base: Path, folder: Path, **options: Any) -> tuple[Recorder, Path]:
    """Train a few steps on `ROWS`; return what was reported, and the folder of the result."""
    from tunesmith.engine.training.run import run

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    spec = TrainingSpec(
        **{
            "job_id": "job",
            "base_model": "tiny",
            "base_path": base,
            "training_path": path,
            "validation_path": path,
            "work_path": folder / "work",
            "output_path": folder / "model",
            "n_epochs": 3,
            "batch_size": len(ROWS),
            "recipe": "lora",
            "learning_rate_multiplier": 60.0,
            "threads": 1,
        }
        | options
    )
    recorder = Recorder()
    run(spec, recorder)
    return recorder, folder / "model"


def plain_model(base: Path, adapter: Path | None = None) -> Any:
    """Return the model as plain transformers and PEFT load it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        except ValueError:
            model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
        if adapter is not None:
            with warnings.catch_warnings():
                # What PEFT warns of here is a part of the adapter that it does not load.
                warnings.filterwarnings("error", message="Found missing adapter keys")
                model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def plain_loss(model: Any, tokenizer: Any, base: Path) -> float:
    """Return the mean loss of the completions' tokens, from one padded batch."""
    from tunesmith.engine.training.examples import read_examples, tokenizer_template

    path = base.parent / f"{base.name}-rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    examples = read_examples(
        path,
        tokenizer,
        tokenizer_template(tokenizer, []),
        prompt_loss_weight=0.0,
        max_tokens=256,
        code="invalid_training_file",
    )
    width = max(map(len, examples))
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    mask = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full((len(examples), width), -100)
    for row, example in enumerate(examples):
        length = len(example)
        ids[row, :length] = torch.from_numpy(example.tokens)
        mask[row, :length] = 1
        scored = torch.from_numpy(example.scored)
        labels[row, :length][scored] = ids[row, :length][scored]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    return float(losses)


def serve(requests: list[tuple[ServableModel, list[str]]], **limits: Any) -> list[Any]:
    """Answer greedily, all requests in one batch of each base; return the sequences."""
    from tunesmith.engine.serving.model_store import ModelStore
    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    store = ModelStore(
        budget=1 << 40,
        device=torch.device("cpu"),
        dtype=torch.float32,
        is_busy=lambda _base: False,
        on_unload=lambda _base: None,
    )
    schedulers: dict[Any, Any] = {}
    groups = []
    for number, (model, prompts) in enumerate(requests):
        base, adapter = store.get(model)
        if base not in schedulers:
            schedulers[base] = Scheduler(base, SchedulerLimits(**limits))
        request = GenerationRequest(
            prompts=prompts, max_tokens=8, temperature=0, logprobs=0, echo=True
        )
        groups.append(create_sequence_group(number, request, base, adapter))
        list(schedulers[base].add(groups[-1]))
    for scheduler in schedulers.values():
        while scheduler.busy:
            for _, delta in scheduler.step():
                if isinstance(delta, Exception):
                    raise delta
    return groups


def difference(group: Any, plain: Any) -> float:
    """Return the largest difference of log probabilities, of prompts and greedy answers."""
    worst = 0.0
    for sequence in group.sequences:
        ids = [*sequence.prompt, *sequence.tokens]
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
        expected = torch.log_softmax(logits, -1)
        found = [*sequence.prompt_logprobs, *sequence.logprobs]
        assert [entry.token for entry in found] == ids[1:]
        for place, entry in enumerate(found):
            worst = max(worst, abs(entry.logprob - float(expected[place, entry.token])))
        for place in range(len(sequence.prompt) - 1, len(ids) - 1):
            best = float(expected[place].max() - expected[place, ids[place + 1]])
            worst = max(worst, best)
    return worst


def scaled_copy(adapter: Path, folder: Path, factor: float) -> Path:
    """Write a copy of an adapter with larger matrices; return the folder."""
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: tensor * factor for name, tensor in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


@dataclass
class Truth:
    """What the engine did with a family.

    Attributes:
        training: The path that trains it, and why it is not the fast one.
        serving: The path that serves it, and why it is not the fast one.
        differences: The largest difference of each comparison with plain transformers and PEFT.
    """

    training: tuple[str, str]
    serving: tuple[str, str]
    differences: dict[str, float]

    @property
    def worst(self) -> float:
        return max(self.differences.values())


def measure(base: Path, folder: Path) -> Truth:
    """Train and serve a model in every way, and compare each with plain transformers and PEFT."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = plain_model(base)
    base_loss = plain_loss(plain, tokenizer, base)
    found: dict[str, float] = {}
    with mock.patch("tunesmith.engine.training.preparation.best_dtype", _float32):
        recorder, adapter = train(base, folder / "lora")
        by_full, full = train(base, folder / "full", recipe="full", learning_rate_multiplier=2.0)
        by_auto, _ = train(base, folder / "auto", recipe="auto")
    for name, record in {"lora": recorder, "full": by_full, "auto": by_auto}.items():
        found[f"first loss of {name}"] = abs(record.steps[0].training_loss - base_loss)
    tuned = plain_model(base, adapter)
    last = recorder.steps[-1].validation
    trained_loss = plain_loss(tuned, tokenizer, base)
    found["last loss in PEFT"] = abs(trained_loss - last.loss)
    assert abs(trained_loss - base_loss) > 0.05, "the adapter changes nothing"
    other = scaled_copy(adapter, folder / "other", 1.5)
    models = {
        "base": (ServableModel("base", "tiny", base), plain),
        "adapter": (ServableModel("adapter", "tiny", base, adapter), tuned),
        "other": (ServableModel("other", "tiny", base, other), plain_model(base, other)),
        "full": (ServableModel("full", "tiny", base, full), plain_model(full)),
    }
    (alone,) = serve([(models["base"][0], TEXTS)], max_prefill_tokens=4)
    found["served alone"] = difference(alone, plain)
    mixed = serve([(model, TEXTS) for model, _ in models.values()])
    for group, (name, (_, expected)) in zip(mixed, models.items(), strict=True):
        found[f"{name} served in a batch"] = difference(group, expected)
    served = alone.vocabulary
    plan = recorder.plans[0]
    return Truth((plan.path, plan.path_reason), (served.run_path, served.path_reason), found)


def _float32(*_arguments: Any, **_options: Any) -> torch.dtype:
    return torch.float32


def table_row(family: str, truth: Truth) -> str:
    """Return a family's row in the table of the documentation."""
    reason = truth.training[1] or truth.serving[1]
    return f"| {family} | {truth.training[0]} | {truth.serving[0]} | {reason} |"
