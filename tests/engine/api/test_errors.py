"""Every error has one form, whoever makes it."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("GET", "nowhere", None, 404, None),
        ("PATCH", "files", None, 405, None),
        ("GET", "models/nobody:ft-x", None, 404, "model"),
        ("GET", "fine-tunes/ft-none", None, 404, "id"),
        ("GET", "fine_tuning/jobs/ftjob-none/checkpoints", None, 404, "id"),
        ("POST", "fine-tunes/ft-none/cancel", None, 404, "id"),
        ("POST", "fine-tunes", b"{", 400, None),
        ("POST", "fine-tunes", b"", 400, None),
        ("POST", "fine-tunes", b"[]", 400, None),
        ("POST", "fine-tunes", b"[" * 100_000, 400, None),
        ("POST", "fine-tunes", b"{}", 400, "training_file"),
        ("POST", "fine-tunes", b'{"training_file": "file-none"}', 400, "training_file"),
        ("POST", "fine-tunes", b'{"training_file": "f", "model": "nobody"}', 404, "model"),
        ("POST", "fine-tunes", b'{"training_file": "f", "n_epochs": 0}', 400, "n_epochs"),
        (
            "POST",
            "fine-tunes",
            b'{"training_file": "f", "prompt_loss_weight": "auto"}',
            400,
            "prompt_loss_weight",
        ),
        ("POST", "fine-tunes", b'{"training_file": "f", "colour": 1}', 400, "colour"),
        (
            "POST",
            "fine-tunes",
            b'{"training_file": "f", "compute_classification_metrics": true}',
            400,
            "validation_file",
        ),
        (
            "POST",
            "fine_tuning/jobs",
            b'{"training_file": "f", "model": "ada", "hyperparameters": {"batch_size": 257}}',
            400,
            "hyperparameters.batch_size",
        ),
        (
            "POST",
            "fine_tuning/jobs",
            b'{"training_file": "f", "model": "ada", "method": {"type": "reinforcement"}}',
            400,
            "method.type",
        ),
        (
            "POST",
            "fine_tuning/jobs",
            b'{"training_file": "f", "model": "ada", "integrations": [{"type": "wandb"}]}',
            400,
            "integrations",
        ),
        ("DELETE", "models/ada", None, 400, None),
    ],
)
def test_an_error_is_sent_in_the_envelope(  # noqa: PLR0917
    http: httpx.Client, method: str, path: str, body: bytes | None, status: int, param: str | None
):
    headers = {"content-type": "application/json"}
    answer = http.request(method, path, content=body, headers=headers)

    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"].startswith("req_")


def test_an_unknown_model_is_named_with_those_that_exist(http: httpx.Client):
    answer = http.post("fine_tuning/jobs", json={"training_file": "f", "model": "nobody"})

    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert "tiny" in error["message"]


def test_a_model_that_was_not_pulled_names_the_command(http: httpx.Client):
    body = {"training_file": "f", "model": "smollm2-135m-instruct"}
    error = http.post("fine_tuning/jobs", json=body).json()["error"]

    assert error["code"] == "model_not_installed"
    assert "tunesmith models pull smollm2-135m-instruct" in error["message"]


def test_a_body_beyond_the_limit_is_refused(http: httpx.Client):
    answer = http.post("fine-tunes", content=b" " * (9 << 20))

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_without_keys_only_this_machines_names_are_answered(http):
    rebound = http.get("models", headers={"host": "evil.example:80"})
    assert rebound.status_code == 421
    assert rebound.json()["error"]["code"] == "unknown_host"
    assert http.get("models", headers={"host": "localhost:1"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/embeddings", "Embeddings are not offered here"),
        ("/v1/responses", "use /v1/chat/completions"),
        ("/v1/moderations", "Moderation is not offered here"),
        ("/v1/images/generations", "no images"),
        ("/v1/batches", "send the requests"),
        ("/v1/threads/runs", "use /v1/chat/completions"),
        ("/chat/completions", "ends in /v1"),
        ("/embeddings", "ends in /v1"),
        ("/v1/v1/chat/completions", "/v1 twice"),
    ],
)
def test_an_address_that_is_not_offered_says_what_to_use(
    http: httpx.Client, path: str, advice: str
):
    answer = http.post(httpx.URL(str(http.base_url)).copy_with(path=path), json={"model": "ada"})

    assert answer.status_code == 404, answer.text
    error = answer.json()["error"]
    assert advice in error["message"]
    assert error["code"] == "unknown_url"


def test_an_address_that_nobody_knows_gets_no_advice(http: httpx.Client):
    message = http.get("nowhere").json()["error"]["message"]

    assert message == "Unknown request URL: GET /v1/nowhere."


def test_the_openapi_document_is_json(http: httpx.Client):
    answer = http.get(httpx.URL(str(http.base_url)).copy_with(path="/openapi.json"))

    assert answer.status_code == 200, answer.text
    assert "/v1/uploads/{upload_id}/parts" in answer.json()["paths"]
