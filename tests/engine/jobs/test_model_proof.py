"""A base model is proven before a job is queued; what cannot be run is refused with the reason."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from families import write_family
from tunesmith.engine import start
from tunesmith.engine.models import verdicts

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}\\n"}}\n'
    for thing in ("phone", "game", "day")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Iterator[httpx.Client]:
    """An engine with models for the fast path, for the general one, and for neither."""
    folder = tmp_path_factory.mktemp("proofs")
    bases = {
        "plain": tiny_base_model,
        "recurrent": write_family("mamba", folder / "mamba", tiny_base_model),
        "mixture": write_family("qwen3_moe", folder / "qwen3_moe", tiny_base_model),
        "none": write_family(  # its configuration speaks of experts, and it has none
            "nemotron_h", folder / "nemotron_h", tiny_base_model
        ),
        "backwards": _with_config(tiny_base_model, folder / "vit", {"model_type": "vit"}),
        "broken": shutil.copytree(tiny_base_model, folder / "broken"),
    }
    weights = bases["broken"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    home = folder / "home"
    home.mkdir()
    table = "".join(f'[base.{name}]\npath = "{path}"\n' for name, path in bases.items())
    (home / "models.toml").write_text(f'default = "plain"\n{table}')
    with (
        start(home) as engine,
        httpx.Client(
            base_url=engine.base_url, headers={"authorization": "Bearer local"}, timeout=120
        ) as client,
    ):
        yield client


def _with_config(base: Path, folder: Path, changes: dict[str, Any]) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _create(http: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    uploaded = http.post(
        "files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", ROWS)}
    ).json()
    return http.post(
        "fine_tuning/jobs",
        json={
            "model": model,
            "training_file": uploaded["id"],
            "hyperparameters": {"n_epochs": 1, "batch_size": 2},
            **fields,
        },
    )


def _finished(http: httpx.Client, identity: str) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        job: dict[str, Any] = http.get(f"fine_tuning/jobs/{identity}").json()
        if job["status"] in {"succeeded", "failed"}:
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def _messages(http: httpx.Client, identity: str) -> list[str]:
    events = http.get(f"fine_tuning/jobs/{identity}/events", params={"limit": 100}).json()
    return [event["message"] for event in events["data"]]


@pytest.mark.parametrize(("model", "path"), [("plain", "fast"), ("recurrent", "general")])
def test_the_path_is_said_by_the_model_and_the_job_and_it_answers(
    http: httpx.Client, model: str, path: str
) -> None:
    created = _create(http, model)
    assert created.status_code == 200, created.text
    job = _finished(http, created.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    shown = http.get(f"models/{model}").json()["path"]
    assert shown["serving"] == path
    assert shown["refused"] is None
    assert bool(shown["reason"]) == (path == "general")
    tuned = job["fine_tuned_model"]
    assert http.get(f"models/{tuned}").json()["path"] == shown
    assert any(f"served by the {path} path" in text for text in _messages(http, job["id"]))
    answer = http.post("completions", json={"model": tuned, "prompt": "I love", "max_tokens": 3})
    assert answer.status_code == 200, answer.text


def test_a_model_that_is_no_language_model_is_refused_at_creation(http: httpx.Client) -> None:
    answer = _create(http, "backwards")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unsupported_model"
    assert error["param"] == "model"
    assert "no causal language model of the type 'vit'" in error["message"]


def test_what_the_proof_refuses_fails_before_the_queue_and_then_at_creation(
    http: httpx.Client,
) -> None:
    first = _create(http, "broken")
    assert first.status_code == 200
    job = _finished(http, first.json()["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "unsupported_model"
    assert not any("queued" in text for text in _messages(http, job["id"]))
    second = _create(http, "broken")
    assert second.status_code == 400
    assert second.json()["error"]["code"] == "unsupported_model"


def test_a_verdict_belongs_to_the_files_it_was_made_of(
    tmp_path: Path, tiny_base_model: Path
) -> None:
    model = shutil.copytree(tiny_base_model, tmp_path / "model")
    verdict = verdicts.Verdict("fast", "general", "its layers recur")
    verdicts.write_verdict(tmp_path / "proofs", model, verdict)
    assert verdicts.read_verdict(tmp_path / "proofs", model) == verdict
    config = json.loads((model / "config.json").read_text()) | {"rope_theta": 5.0}
    (model / "config.json").write_text(json.dumps(config))
    assert verdicts.read_verdict(tmp_path / "proofs", model) is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder and a decoder"),
        ({"model_type": "homemade", "auto_map": {"AutoModel": "x"}}, "code of its own"),
        ({"model_type": "vit"}, "no causal language model of the type 'vit'"),
        ({"model_type": "gemma3"}, None),
        ({"model_type": "mistral3"}, None),
    ],
)
def test_what_the_settings_alone_say(
    tmp_path: Path, config: dict[str, Any], reason: str | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    fault = verdicts.static_fault(tmp_path)
    assert fault is None if reason is None else reason in str(fault)


def test_a_mixture_whose_experts_were_trained_answers(http: httpx.Client) -> None:
    job = _finished(http, _create(http, "mixture", train_experts=True).json()["id"])
    assert job["status"] == "succeeded", job["error"]
    said = "\n".join(_messages(http, job["id"]))
    assert "its experts are trained, too" in said
    body = {"model": job["fine_tuned_model"], "prompt": "I love the phone ->", "max_tokens": 3}
    assert http.post("completions", json=body).json()["usage"]["completion_tokens"] > 0


def test_experts_that_are_not_there_are_refused_before_the_queue(http: httpx.Client) -> None:
    refused = _create(http, "plain", train_experts=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "train_experts"
    assert "no mixture of experts" in refused.json()["error"]["message"]
    refused = _create(http, "mixture", train_experts=True, recipe="full")
    assert "not by 'full'" in refused.json()["error"]["message"]
    job = _finished(http, _create(http, "none", train_experts=True).json()["id"])
    assert job["status"] == "failed"
    assert job["error"]["param"] == "train_experts"
