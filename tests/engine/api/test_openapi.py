"""The OpenAPI document, and thousands of requests made from it.

Each operation gets requests that fit the document and requests that do not. No answer may be a
5xx; each must be declared, of its declared form, and each error in the envelope.
TUNESMITH_SCHEMA_CASES sets the number of requests for each operation.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import httpx
import pytest

from tunesmith.engine import Engine

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

CASES = int(os.environ.get("TUNESMITH_SCHEMA_CASES", "8"))
MOST_TOKENS = 4


def test_the_document_is_served_and_names_every_error(engine: Engine):
    document = httpx.get(engine.base_url.removesuffix("/v1") + "/openapi.json").json()

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert set(operation["responses"]) == {"200", "4XX", "5XX"}, (method, path)
            assert operation["summary"], (method, path)


def operations(document: dict[str, Any]) -> list[Any]:
    schema = schemathesis.openapi.from_dict(document)
    return [result.ok() for result in schema.get_all_operations()]


def test_no_request_made_from_the_document_breaks_the_engine(
    engine: Engine, upload: Any, record_property: Any
):
    root = engine.base_url.removesuffix("/v1")
    document = httpx.get(f"{root}/openapi.json").json()
    known = {"file_id": upload()["id"], "model": "ada", "engine": "ada"}
    statuses: dict[int, int] = {}

    def send(case: Any, *, with_known: bool) -> None:
        fill_in(case, known, with_known=with_known)
        response = case.call(base_url=root, timeout=300)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        if response.status_code >= 400:
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert isinstance(error["message"], str)
        case.validate_response(
            response,
            checks=[
                schemathesis.checks.not_a_server_error,
                schemathesis.specs.openapi.checks.status_code_conformance,
                schemathesis.specs.openapi.checks.content_type_conformance,
                schemathesis.specs.openapi.checks.response_schema_conformance,
            ],
        )

    for operation in operations(document):
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:
            run(operation, mode, send)
    total = sum(statuses.values())
    record_property("statuses", statuses)
    assert total >= CASES * 20, statuses
    assert statuses.get(200, 0) > 0
    print(f"{total} requests: {statuses}")  # noqa: T201 - shown with -s


def run(operation: Any, mode: Any, send: Any) -> None:
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=mode),
        with_known=hypothesis.strategies.booleans(),
    )
    @hypothesis.settings(
        max_examples=max(1, CASES // 2),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def each(case: Any, with_known: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        send(case, with_known=with_known)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            each()
        except hypothesis.errors.Unsatisfiable:
            assert mode is schemathesis.GenerationMode.NEGATIVE


def fill_in(case: Any, known: dict[str, str], *, with_known: bool) -> None:
    """Give some requests ids that exist, and keep generated answers short."""
    query = case.query or {}
    if str(query.get("stream", "")).lower() in {"true", "1", "yes", "on", "t", "y"}:
        query["stream"] = "false"
    if with_known and case.path_parameters:
        for name in case.path_parameters:
            case.path_parameters[name] = known.get(name, case.path_parameters[name])
    if isinstance(case.body, dict) and "max_tokens" not in case.body and "model" in case.body:
        case.body["max_tokens"] = MOST_TOKENS
    if isinstance(case.body, dict) and with_known:
        for name, value in {"model": "ada", "training_file": "file-none"}.items():
            if name in case.body and isinstance(case.body[name], str):
                case.body[name] = value
