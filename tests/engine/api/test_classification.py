"""Jobs with classification metrics: one request gives a class; what cannot work never trains."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest


def numbered(classes: Sequence[str], count: int = 40) -> str:
    """Rows in which the first letters of the prompt decide the class."""
    rows = [
        {"prompt": f"{chr(97 + n % len(classes)) * 3} ->", "completion": classes[n % len(classes)]}
        for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def finished(http: httpx.Client, upload: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    def create(training: str, validation: str, **fields: Any) -> dict[str, Any]:
        body = {
            "training_file": upload(training)["id"],
            "validation_file": upload(validation, "valid.jsonl")["id"],
            "model": "ada",
            "compute_classification_metrics": True,
        } | fields
        answer = http.post("fine-tunes", json=body)
        assert answer.status_code == 200, answer.text
        identity = answer.json()["id"].replace("ft-", "ftjob-")
        for _ in range(1200):
            job: dict[str, Any] = http.get(f"fine_tuning/jobs/{identity}").json()
            if job["status"] in {"succeeded", "failed"}:
                return job
            time.sleep(0.05)
        raise AssertionError(job)

    return create


def test_classes_as_numbers_are_trained_measured_and_read_in_one_request(
    http: httpx.Client, finished: Callable[..., Any]
) -> None:
    classes = [f" {number}\n" for number in (0, 1, 2, 10, 11)]
    job = finished(
        numbered(classes),
        numbered(classes, 10),
        classification_n_classes=5,
        n_epochs=16,
        learning_rate_multiplier=1,
        batch_size=4,
    )
    assert job["status"] == "succeeded", job["error"]
    text = http.get(f"files/{job['result_files'][0]}/content").text
    last = list(csv.DictReader(io.StringIO(text)))[-1]
    assert float(last["classification/accuracy"]) == 1
    assert float(last["classification/weighted_f1_score"]) == 1
    events = http.get(f"fine_tuning/jobs/{job['id']}/events?limit=500").json()["data"]
    advice = next(e["message"] for e in events if "max_tokens=" in e["message"])
    length = int(advice.split("max_tokens=")[1].split(",")[0].split(" ")[0])
    answers = http.post(
        "completions",
        json={
            "model": job["fine_tuned_model"],
            "prompt": [f"{letter * 3} ->" for letter in "abcde"],
            "max_tokens": length,
            "temperature": 0,
            "stop": ["\n"],
        },
    ).json()
    assert [choice["text"] for choice in answers["choices"]] == [c.rstrip("\n") for c in classes]


@pytest.mark.parametrize(
    ("classes", "fields", "complaint", "param"),
    [
        (
            [" 1", " 10", " 100"],
            {"classification_n_classes": 3},
            "begin with those of ' 10'",
            "classification_n_classes",
        ),
        (
            [" 1", " 2", " 3"],
            {"classification_n_classes": 4},
            "the files have 3 different completions",
            "classification_n_classes",
        ),
        (
            [" 1", " 2"],
            {"classification_positive_class": " 3"},
            "No completion is the positive class ' 3'",
            "classification_positive_class",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_queue(  # noqa: PLR0917 - by name
    http: httpx.Client,
    finished: Callable[..., Any],
    classes: list[str],
    fields: dict[str, Any],
    complaint: str,
    param: str,
) -> None:
    job = finished(numbered(classes), numbered(classes, 6), **fields)
    assert job["status"] == "failed"
    assert job["error"]["code"] == "invalid_hyperparameters"
    assert complaint in job["error"]["message"]
    assert job["error"]["param"] == param
    events = http.get(f"fine_tuning/jobs/{job['id']}/events?limit=500").json()["data"]
    assert not any("enqueued" in e["message"] or "started" in e["message"] for e in events)
