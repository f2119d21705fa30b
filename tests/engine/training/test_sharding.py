"""Trainings that two processes share, sharded by FSDP2, against those of one process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import warnings
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from families import write_family
from tunesmith.engine.training import preparation, train

WORKER = Path(__file__).with_name("sharing_worker.py")
FIVE_DIGITS = 5e-6
ROWS = 10  # of 4 in a step


@pytest.fixture(autouse=True)
def in_32_bits(monkeypatch):
    monkeypatch.setattr(preparation, "best_dtype", lambda _device: torch.float32)


@pytest.fixture(scope="module")
def forker():
    """A process that has loaded the libraries, and forks groups of processes."""
    with subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def share(tmp_path, forker):
    """Return a function that trains by specifications in several processes."""
    numbers = count()

    def share(*specs, processes=2, dies_at=None, stops_after=None):
        meeting = tmp_path / f"meeting-{next(numbers)}"
        group = {
            "count": processes,
            "meeting": str(meeting),
            "specs": [spec.model_dump(mode="json") for spec in specs],
            "dies_at": dies_at,
            "stops_after": stops_after,
        }
        forker.stdin.write(json.dumps(group) + "\n")
        forker.stdin.flush()
        statuses = json.loads(forker.stdout.readline())
        said = Path(f"{meeting}-0.log").read_text(encoding="utf-8")
        if dies_at is not None:
            assert statuses[1] == -signal.SIGKILL
            assert statuses[0]
            return said
        assert statuses == [0] * processes, said
        return json.loads(Path(f"{meeting}-0.json").read_text(encoding="utf-8"))

    return share


@pytest.fixture
def make(make_spec, make_file, make_validation, rows):
    def make(name, **changes):
        values = {
            "training_path": make_file("some.jsonl", rows(ROWS)),
            "validation_path": make_validation(7),
            "recipe": "lora",
            "path": "fast",
        }
        return make_spec(name, **(values | changes))

    return make


def pairs(start: int, end: int) -> list[dict]:
    def reply(text):
        return [{"role": "assistant", "content": text}]

    return [
        {
            "input": {"messages": [{"role": "user", "content": f"phone {n % 3}"}]},
            "preferred_output": reply(" positive"),
            "non_preferred_output": reply(" negative" * (1 + n % 2)),
        }
        for n in range(start, end)
    ]


def weights(spec) -> dict[str, torch.Tensor]:
    (file,) = spec.output_path.glob("*model.safetensors")
    return load_file(file)


def assert_same_weights(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4)


def test_two_processes_train_what_one_does_to_five_digits(  # noqa: PLR0917 - fixtures
    make, make_file, recorder, share, tmp_path, tiny_base_model
):
    # Its attention is its own, so that it takes the general path.
    general = write_family("gpt2", tmp_path / "gpt2", tiny_base_model)

    def specs(kind):
        preferences = {
            "training_path": make_file("pairs.jsonl", pairs(0, 7)),
            "validation_path": make_file("more.jsonl", pairs(7, 10)),
            "method": "dpo",
        }
        return [
            make(f"{kind}-lora"),
            make(f"{kind}-full", recipe="full"),
            make(f"{kind}-general", path="general", base_path=general),
            make(f"{kind}-dpo", **preferences),
            make(f"{kind}-fast", recipe="fast"),
        ]

    shared = specs("shared")
    for own, spec, records in zip(specs("alone"), shared, share(*shared), strict=True):
        alone = recorder()
        train(own, alone)
        losses = [record.training_loss for record in alone.steps]
        assert records["losses"] == pytest.approx(losses, rel=FIVE_DIGITS), spec.job_id
        validation = [record.validation.loss for record in alone.steps if record.validation]
        assert records["validation"] == pytest.approx(validation, rel=FIVE_DIGITS)
        for extra, record in zip(records["extra"], alone.steps, strict=True):
            assert extra == pytest.approx(record.extra, rel=1e-3, abs=1e-6)
        assert_same_weights(own, spec)
        saved = [path.name for path in spec.output_path.iterdir()]
        assert sorted(saved) == sorted(path.name for path in own.output_path.iterdir())


def test_one_of_three_processes_has_nothing_to_do(make, make_file, rows, recorder, share):
    options = {"training_path": make_file("few.jsonl", rows(2)), "batch_size": 2}
    shared, own = make("shared", **options), make("alone", **options)
    (records,) = share(shared, processes=3)
    alone = recorder()
    train(own, alone)
    assert records["losses"] == pytest.approx(
        [r.training_loss for r in alone.steps], rel=FIVE_DIGITS
    )
    loads_in_peft(shared)


def loads_in_peft(spec):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(spec.base_path, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses transformers' old names
        model = PeftModel.from_pretrained(base, spec.output_path)
    loaded = {
        name.replace(".default", ""): value
        for name, value in model.state_dict().items()
        if "lora_" in name
    }
    for name, value in weights(spec).items():
        assert torch.equal(loaded[name], value)


@pytest.mark.parametrize("recipe", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_killed_process_loses_no_step(make, share, recipe):
    options = {"recipe": recipe, "checkpoint_every_seconds": 0.0, "n_epochs": 1}
    whole, spec = make("whole", **options), make("killed", **options)
    (undisturbed,) = share(whole)
    share(spec, dies_at=2)
    (records,) = share(spec)
    assert records["start"] == 1
    assert records["losses"] == undisturbed["losses"][1:]
    results = [s.work_path / "results.csv" for s in (whole, spec)]
    assert results[0].read_bytes() == results[1].read_bytes()
    assert {n: v.tolist() for n, v in weights(spec).items()} == {
        n: v.tolist() for n, v in weights(whole).items()
    }
