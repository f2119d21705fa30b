"""Both job APIs over the same real trainings: fields, messages, lists, models, deletion."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tunesmith.types.fine_tuning import (
    FineTuningJob,
    FineTuningJobCheckpoint,
    FineTuningJobEvent,
)
from tunesmith.types.legacy_fine_tunes import FineTune, FineTuneEvent


def test_the_legacy_api_describes_a_job(fine_tune: dict[str, Any], training_file: dict[str, Any]):
    parsed = FineTune.model_validate(fine_tune)

    assert parsed.id.startswith("ft-")
    assert re.fullmatch(r"ada:ft-local:my-suffix-\d{4}(-\d{2}){5}", parsed.fine_tuned_model or "")
    assert [file.id for file in parsed.training_files] == [training_file["id"]]
    assert parsed.result_files[0].purpose == "fine-tune-results"
    assert parsed.hyperparams.n_epochs == 2
    assert parsed.hyperparams.prompt_loss_weight == 0.01
    assert parsed.hyperparams.batch_size == 1
    assert fine_tune["base_model"] == "tiny"
    messages = [FineTuneEvent.model_validate(event).message for event in fine_tune["streamed"]]
    assert messages[0] == f"Created fine-tune: {parsed.id}"
    assert re.fullmatch(r"Fine-tune enqueued. Queue number: \d+", messages[1])
    assert messages[2] == "Fine-tune started"
    assert messages[-5:] == [
        "Completed epoch 1/2",
        "Completed epoch 2/2",
        f"Uploaded model: {parsed.fine_tuned_model}",
        f"Uploaded result file: {parsed.result_files[0].id}",
        "Fine-tune succeeded",
    ]
    assert fine_tune["events"] == fine_tune["streamed"]


def test_the_result_file_has_a_row_for_each_step(http: httpx.Client, fine_tune: dict[str, Any]):
    answer = http.get(f"files/{fine_tune['result_files'][0]['id']}/content")

    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["step"]) for row in rows] == list(range(1, 25))
    assert rows[-1]["elapsed_examples"] == "24"


def test_the_fine_tuning_jobs_api_describes_its_job(
    http: httpx.Client, job: dict[str, Any], fine_tune: Any
):
    parsed = FineTuningJob.model_validate(job)

    assert parsed.model == fine_tune["fine_tuned_model"]
    assert re.fullmatch(r"ft:ada:local::\w{8}", parsed.fine_tuned_model or "")
    assert (parsed.seed, parsed.metadata, parsed.error) == (5, {"team": "a"}, None)
    assert parsed.hyperparameters.n_epochs == 1
    assert parsed.hyperparameters.batch_size == 1
    assert parsed.trained_tokens
    assert len(parsed.result_files) == 1
    page = http.get(f"fine_tuning/jobs/{parsed.id}/events", params={"limit": 500}).json()
    events = [FineTuningJobEvent.model_validate(event) for event in reversed(page["data"])]
    messages = [event.message for event in events]
    assert messages[0] == f"Created fine-tuning job: {parsed.id}"
    assert messages[1] == f"Validating training file: {parsed.training_file}"
    steps = [event for event in events if event.type == "metrics"]
    assert [event.message.split(":")[0] for event in steps] == [
        f"Step {step}/12" for step in range(1, 13)
    ]
    assert steps[0].data is not None
    assert steps[0].message == f"Step 1/12: training loss={steps[0].data['train_loss']:.2f}"
    assert messages[-2:] == [
        f"New fine-tuned model created: {parsed.fine_tuned_model}",
        "The job has successfully completed",
    ]


def test_events_come_in_pages_newest_first(http: httpx.Client, job: dict[str, Any]):
    path = f"fine_tuning/jobs/{job['id']}/events"
    everything = http.get(path, params={"limit": 500}).json()
    collected: list[dict[str, Any]] = []
    while True:
        after = {"after": collected[-1]["id"]} if collected else {}
        page = http.get(path, params={"limit": 4} | after).json()
        collected += page["data"]
        if not page["has_more"]:
            break

    assert collected == everything["data"]
    assert collected[0]["message"] == "The job has successfully completed"


def test_a_checkpoint_is_a_model(http: httpx.Client, job: dict[str, Any]):
    page = http.get(f"fine_tuning/jobs/{job['id']}/checkpoints").json()
    checkpoint = FineTuningJobCheckpoint.model_validate(page["data"][0])
    name = checkpoint.fine_tuned_model_checkpoint

    assert checkpoint.step_number == 12
    assert name == f"{job['fine_tuned_model']}:ckpt-step-12"
    assert checkpoint.metrics.train_loss is not None
    body = {"model": name, "prompt": "I love", "max_tokens": 2}
    answer = http.post("completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == name


def test_both_apis_list_the_same_jobs_in_their_own_order(
    http: httpx.Client, fine_tune: dict[str, Any], job: dict[str, Any]
):
    first = [entry["id"].partition("-")[2] for entry in http.get("fine-tunes").json()["data"]]
    page = http.get("fine_tuning/jobs", params={"limit": 100}).json()
    second = [entry["id"].partition("-")[2] for entry in page["data"]]

    assert first == second[::-1]
    assert "events" not in http.get("fine-tunes").json()["data"][0]
    only = http.get("fine_tuning/jobs", params={"metadata[team]": "a"}).json()["data"]
    assert [entry["id"] for entry in only] == [job["id"]]
    # Other tests make jobs on this engine, before, after and between these two.
    own = [one["id"].partition("-")[2] for one in (job, fine_tune)]
    assert second.index(own[0]) < second.index(own[1])
    behind = http.get("fine_tuning/jobs", params={"after": job["id"], "limit": 1}).json()
    assert behind["data"] == [page["data"][second.index(own[0]) + 1]]


def test_an_ended_job_cannot_be_cancelled(http: httpx.Client, fine_tune: dict[str, Any]):
    answer = http.post(f"fine-tunes/{fine_tune['id']}/cancel")

    assert answer.status_code == 400
    assert "already succeeded" in answer.json()["error"]["message"]


def test_a_fine_tuned_model_names_its_origin(http: httpx.Client, fine_tune: dict[str, Any]):
    name = fine_tune["fine_tuned_model"]
    raw = http.get(f"models/{name}").json()

    assert raw == http.get(f"models/{name.replace(':', '%3A')}").json()
    assert raw["base_model"] == "tiny"
    assert raw["prompt_format"] == {"separator": " ->"}
    names = [model["id"] for model in http.get("models").json()["data"]]
    assert {"tiny", "ada", "gpt-3.5-turbo", name} <= set(names)


def test_a_deleted_model_is_gone_from_disk_and_wire(
    http: httpx.Client, engine: Any, upload: Callable[..., dict[str, Any]]
):
    body = {"training_file": upload()["id"], "model": "babbage", "n_epochs": 1}
    made = http.post("fine-tunes", json=body).json()
    while (now := http.get(f"fine-tunes/{made['id']}").json())["status"] != "succeeded":
        assert now["status"] not in {"failed", "cancelled"}, now
        time.sleep(0.1)
    name = now["fine_tuned_model"]
    folder = engine.home.models / made["id"].removeprefix("ft-")
    assert folder.is_dir()
    body |= {"model": name, "n_epochs": 50}
    continued = http.post("fine-tunes", json=body).json()
    refused = http.delete(f"models/{name}")
    assert refused.json()["error"]["code"] == "model_in_use"
    assert "continues the training" in refused.json()["error"]["message"]
    http.post(f"fine-tunes/{continued['id']}/cancel")

    answer = http.delete(f"models/{name.replace(':', '%3A')}")

    deleted = answer.json()
    assert deleted.pop("freed_bytes") > 10_000
    assert deleted == {"id": name, "object": "model", "deleted": True}
    assert not folder.exists()
    assert http.delete(f"models/{name}").status_code == 404
    completion = http.post("completions", json={"model": name, "prompt": "I"})
    assert completion.json()["error"]["code"] == "model_not_found"


def test_a_file_is_kept_while_a_job_needs_it(
    http: httpx.Client, upload: Callable[..., dict[str, Any]]
):
    file = upload()
    body = {"training_file": file["id"], "model": "ada", "hyperparameters": {"n_epochs": 50}}
    made = http.post("fine_tuning/jobs", json=body).json()

    refused = http.delete(f"files/{file['id']}")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "file_in_use"
    http.post(f"fine_tuning/jobs/{made['id']}/cancel")
    assert http.delete(f"files/{file['id']}").status_code == 200


def test_equal_files_under_two_ids_are_warned_of(
    http: httpx.Client, upload: Callable[..., dict[str, Any]]
):
    body = {"training_file": upload()["id"], "model": "ada", "validation_file": upload()["id"]}
    job = http.post("fine_tuning/jobs", json=body).json()
    http.post(f"fine_tuning/jobs/{job['id']}/cancel")
    events = http.get(f"fine_tuning/jobs/{job['id']}/events").json()["data"]
    (warning,) = [event for event in events if event["level"] == "warn"]
    assert "same content" in warning["message"]


@pytest.fixture(scope="session")
def trained(http: httpx.Client, upload: Callable[..., dict[str, Any]]) -> dict[str, str]:
    """Models by the recipe that trained them."""
    models = {}
    for recipe in ("fast", "lora", "full"):
        body = {
            "training_file": upload()["id"],
            "model": "ada",
            "recipe": recipe,
            "hyperparameters": {"n_epochs": 1, "batch_size": 12},
        }
        job = http.post("fine_tuning/jobs", json=body).json()
        while (now := http.get(f"fine_tuning/jobs/{job['id']}").json())["finished_at"] is None:
            time.sleep(0.02)
        models[recipe] = now["fine_tuned_model"]
    return models


@pytest.mark.parametrize("path", ["fine_tuning/jobs", "fine-tunes"])
@pytest.mark.parametrize("requested", ["fast", "lora", "full"])
@pytest.mark.parametrize("parent", ["fast", "lora", "full"])
def test_what_cannot_work_is_refused_at_creation(  # noqa: PLR0917 - by name
    http: httpx.Client,
    upload: Callable[..., dict[str, Any]],
    trained: dict[str, str],
    path: str,
    requested: str,
    parent: str,
):
    body = {"training_file": upload()["id"], "model": trained[parent], "recipe": requested}
    answer = http.post(path, json=body)
    if parent == requested:
        assert answer.status_code == 200
        http.post(f"{path}/{answer.json()['id']}/cancel")
        return
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "recipe"
    assert f"use '{parent}'" in error["message"]


def test_hyperparameters_of_the_method_that_is_not_used_are_refused(
    http: httpx.Client, upload: Callable[..., dict[str, Any]]
):
    method = {"type": "dpo", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    body = {"training_file": upload()["id"], "model": "ada", "method": method}
    error = http.post("fine_tuning/jobs", json=body).json()["error"]
    assert error["param"] == "method.supervised"
    assert "Leave method.supervised out" in error["message"]


def test_trained_tokens_are_known_at_the_end(
    http: httpx.Client, upload: Callable[..., dict[str, Any]]
):
    body = {"training_file": upload()["id"], "model": "ada", "hyperparameters": {"n_epochs": 3}}
    job = http.post("fine_tuning/jobs", json=body).json()
    while (now := http.get(f"fine_tuning/jobs/{job['id']}").json())["finished_at"] is None:
        assert now["trained_tokens"] is None
        time.sleep(0.02)
    assert now["trained_tokens"] > 0


SYSTEM_ROW = {
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "love"},
    ]
}
IMAGE_ROW = {
    "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]},
        {"role": "assistant", "content": "a city"},
    ]
}
LONG_ROW = {
    "messages": [
        {"role": "user", "content": "day " * 3000},
        {"role": "assistant", "content": "a city"},
    ]
}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (IMAGE_ROW, "Line 2: messages[0].content[0] must be a string"),
        (LONG_ROW, "an example may have 2,048, prompt and completion together"),
    ],
)
def test_a_row_that_the_model_cannot_learn_is_refused_before_the_queue(
    http: httpx.Client, row: dict[str, Any], complaint: str
):
    content = "".join(json.dumps(one) + "\n" for one in (SYSTEM_ROW, row))
    file = http.post(
        "/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", content)}
    ).json()
    body = {"training_file": file["id"], "model": "gpt-4o-mini"}
    job = http.post("/fine_tuning/jobs", json=body).json()
    for _ in range(600):
        job = http.get(f"/fine_tuning/jobs/{job['id']}").json()
        if job["status"] in {"failed", "queued", "running", "succeeded"}:
            break
        time.sleep(0.1)
    assert job["status"] == "failed"
    assert job["error"]["code"] == "invalid_training_file"
    assert complaint in job["error"]["message"]
