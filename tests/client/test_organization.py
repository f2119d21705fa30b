"""Batches, evals and an administrator's reads; Azure's addresses without a version."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

import tunesmith
from http_stub import answer
from tunesmith import AsyncAzureClient, AzureClient

BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "completed",
    "created_at": 1,
    "output_file_id": "file-2",
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "errors": {"object": "list", "data": [{"code": "c", "message": "m", "line": 2}]},
}
EVAL = {
    "id": "eval_1",
    "object": "eval",
    "name": "tone",
    "created_at": 1,
    "data_source_config": {"type": "stored_completions", "schema": {}},
    "testing_criteria": [{"type": "string_check", "name": "exact"}],
    "metadata": {},
}
RUN = {
    "id": "evalrun_1",
    "object": "eval.run",
    "eval_id": "eval_1",
    "status": "completed",
    "model": "ft:gpt-4o-mini-2024-07-18:acme::1",
    "name": "first",
    "created_at": 1,
    "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}},
    "result_counts": {"total": 2, "errored": 0, "failed": 1, "passed": 1},
    "per_model_usage": [{"model_name": "m", "invocation_count": 2, "total_tokens": 9}],
    "error": None,
}
ITEM = {
    "id": "outputitem_1",
    "object": "eval.run.output_item",
    "run_id": "evalrun_1",
    "eval_id": "eval_1",
    "created_at": 1,
    "status": "pass",
    "datasource_item_id": 0,
    "datasource_item": {"answer": "yes"},
    "results": [{"name": "exact", "score": 1.0, "passed": True, "sample": None}],
    "sample": {"output": [{"role": "assistant", "content": "yes"}], "seed": 42},
}
PROJECT = {"id": "proj_1", "object": "organization.project", "name": "P", "created_at": 1}
LIMIT = {
    "id": "rl-m",
    "object": "project.rate_limit",
    "model": "m",
    "max_requests_per_1_minute": 60,
    "max_tokens_per_1_minute": 1000,
    "batch_1_day_max_input_tokens": 9,
}
MODEL = {"id": "m", "object": "model", "created": 1, "owned_by": "o"}


def listed(*items: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "has_more": False}


def test_batches(mode, stub):
    client = mode.client(stub.url)
    stub.then(answer(BATCH), answer(BATCH), answer(listed(BATCH)), answer(BATCH))
    made = mode.run(
        client.batches.create(
            input_file_id="file-1", endpoint="/v1/chat/completions", metadata={"a": "b"}
        )
    )
    assert made.request_counts.failed == 1
    assert made.errors.data[0].line == 2
    assert made.usage is None
    assert mode.run(client.batches.retrieve("batch_1")).output_file_id == "file-2"
    assert [one.id for one in mode.items(client.batches.list(limit=5))] == ["batch_1"]
    assert mode.run(client.batches.cancel("batch_1")).status == "completed"
    assert stub.requests[0].json == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"a": "b"},
    }
    assert [(one.method, one.path) for one in stub.requests[1:]] == [
        ("GET", "/v1/batches/batch_1"),
        ("GET", "/v1/batches?limit=5"),
        ("POST", "/v1/batches/batch_1/cancel"),
    ]


def test_evals(mode, stub):
    client = mode.client(stub.url)
    stub.then(
        answer(listed(EVAL)),
        answer(EVAL),
        answer(listed(RUN)),
        answer(RUN),
        answer(listed(ITEM)),
        answer(ITEM),
    )
    items = client.evals.runs.output_items
    assert mode.items(client.evals.list(order="desc"))[0].testing_criteria[0]["name"] == "exact"
    assert mode.run(client.evals.retrieve("eval_1")).name == "tone"
    assert mode.items(client.evals.runs.list("eval_1"))[0].result_counts.passed == 1
    run = mode.run(client.evals.runs.retrieve("evalrun_1", eval_id="eval_1"))
    assert run.data_source["source"]["id"] == "file-1"
    assert mode.items(items.list("evalrun_1", eval_id="eval_1"))[0].results[0].score == 1.0
    one = mode.run(items.retrieve("outputitem_1", eval_id="eval_1", run_id="evalrun_1"))
    assert one.sample["seed"] == 42
    assert [request.path for request in stub.requests] == [
        "/v1/evals?order=desc",
        "/v1/evals/eval_1",
        "/v1/evals/eval_1/runs",
        "/v1/evals/eval_1/runs/evalrun_1",
        "/v1/evals/eval_1/runs/evalrun_1/output_items",
        "/v1/evals/eval_1/runs/evalrun_1/output_items/outputitem_1",
    ]


def test_an_organization_is_read_with_the_administrators_key(mode, stub):
    client = mode.client(stub.url, admin_api_key="sk-admin", project="proj_1", organization="org-1")
    costs = {"object": "page", "data": [{"start_time": 1, "end_time": 2, "results": []}]}
    cost = {"amount": {"value": 1.5, "currency": "usd"}, "line_item": "ft"}
    costs["data"][0]["results"].append(cost)
    stub.then(
        answer(listed(PROJECT)),
        answer(PROJECT),
        answer(listed(LIMIT)),
        answer(costs | {"has_more": True, "next_page": "p2"}),
        answer(listed(MODEL)),
    )
    organization = client.admin.organization
    found = mode.items(organization.projects.list(include_archived=True, limit=100))
    assert found[0].archived_at is None
    assert mode.run(organization.projects.retrieve("proj_1")).name == "P"
    limits = mode.items(organization.projects.rate_limits.list_rate_limits("proj_1"))
    assert limits[0].batch_1_day_max_input_tokens == 9
    page = mode.run(organization.usage.costs(start_time=1, group_by=["project_id"]))
    assert page.data[0].results[0].amount.value == 1.5
    assert page.next_page == "p2"
    mode.items(client.models.list())
    assert [unquote(request.path) for request in stub.requests[:4]] == [
        "/v1/organization/projects?include_archived=true&limit=100",
        "/v1/organization/projects/proj_1",
        "/v1/organization/projects/proj_1/rate_limits",
        "/v1/organization/costs?start_time=1&group_by[]=project_id",
    ]
    keys = [request.headers["authorization"].split()[-1] for request in stub.requests]
    assert set(keys[:4]) == {"sk-admin"}
    assert keys[4] != "sk-admin"
    for request in stub.requests:
        assert request.headers["openai-project"] == "proj_1"
        assert request.headers["openai-organization"] == "org-1"


def test_a_model_says_when_it_ends(mode, stub):
    stub.then(answer(MODEL | {"shutdown_date": "2027-01-14"}), answer(MODEL))
    client = mode.client(stub.url)
    assert mode.run(client.models.retrieve("m")).shutdown_date == "2027-01-14"
    assert mode.run(client.models.retrieve("m")).shutdown_date is None


@pytest.mark.parametrize("ending", ["", "/", "/openai/v1", "/openai/v1/"])
def test_azure_without_a_version(mode, stub, ending):
    stub.handle = lambda request: answer(listed() if request.method == "GET" else BATCH)
    kind: Any = AsyncAzureClient if mode.runner else AzureClient
    root = stub.url.removesuffix("/v1")
    version = {} if ending.strip("/") else {"api_version": "v1"}
    client = kind(azure_endpoint=root + ending, api_key="azure-key", **version)
    mode.clients.append(client)
    mode.items(client.files.list())
    mode.run(client.batches.create(input_file_id="f", endpoint="/chat/completions"))
    stub.then(answer(MODEL))
    stub.handle = stub._next
    mode.run(client.post("/chat/completions", body={"model": "deployment"}))
    assert [request.path for request in stub.requests] == [
        "/openai/v1/files",
        "/openai/v1/batches",
        "/openai/v1/chat/completions",
    ]
    assert {request.headers["api-key"] for request in stub.requests} == {"azure-key"}
    assert str(client.base_url) == f"{root}/openai/v1"


def test_azure_without_a_version_has_no_deployment_in_its_addresses():
    with pytest.raises(tunesmith.ConfigurationError, match="model of each request"):
        AzureClient(
            azure_endpoint="https://a.test", api_version="v1", api_key="k", azure_deployment="d"
        )
