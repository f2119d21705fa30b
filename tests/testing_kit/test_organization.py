"""A recorded organisation: what it has, how it misbehaves, and that any client can talk to it."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import time
from typing import Any

import pytest

import tunesmith
from peak_memory import PEAK
from tunesmith import AzureClient, RetryPolicy
from tunesmith.datasets import check_file
from tunesmith.testing import Quirks, recorded_organization

NO_RETRY = RetryPolicy(max_retries=0)
ASKED = {"role": "user", "content": "Ben writes: the lamp is a delight. Order 4."}


@pytest.fixture(scope="module")
def calm() -> Any:
    with recorded_organization(quirks=Quirks.none()) as organization:
        yield organization


@pytest.fixture(scope="module")
def azure() -> Any:
    with recorded_organization("azure", quirks=Quirks.none()) as organization:
        yield organization


@pytest.fixture
def client(calm: Any) -> Any:
    with calm.client(retry=NO_RETRY) as client:
        yield client


def everything(client: tunesmith.Client) -> dict[str, Any]:
    """What a project has, as plain data."""
    jobs = list(client.fine_tuning.jobs.list(limit=7))
    return {
        "files": [one.to_dict() for one in client.files.list(limit=11)],
        "jobs": [one.to_dict() for one in jobs],
        "events": [
            one.to_dict() for job in jobs for one in client.fine_tuning.jobs.list_events(job.id)
        ],
        "checkpoints": [
            one.to_dict()
            for job in jobs
            for one in client.fine_tuning.jobs.checkpoints.list(job.id)
        ],
        "legacy": [one.to_dict() for one in client.fine_tunes.list()],
        "stored": [one.to_dict() for one in client.chat.completions.list()],
        "batches": [one.to_dict() for one in client.batches.list()],
        "evals": [one.to_dict() for one in client.evals.list()],
        "models": [one.to_dict() for one in client.models.list()],
    }


def test_equal_seeds_make_equal_organizations_and_others_others(calm):
    def made(seed: int) -> dict[str, Any]:
        made = recorded_organization(seed=seed, quirks=Quirks.none())
        with made as other, other.client() as client:
            return everything(client)

    with calm.client() as client:
        first = everything(client)
    assert all(first.values())
    assert made(0) == first
    assert not {one["id"] for one in made(1)["files"]} & {one["id"] for one in first["files"]}


def test_each_page_size_gives_the_same_list(client):
    whole = [one.id for one in client.files.list()]
    for limit in (1, 7, 1000):
        assert [one.id for one in client.files.list(limit=limit)] == whole
    assert len(whole) == len(set(whole)) == 60
    newest = [one.created_at for one in client.files.list()]
    assert newest == sorted(newest, reverse=True)
    ascending = [one.id for one in client.files.list(order="asc")]
    assert ascending[::-1] == whole


def test_objects_have_the_fields_of_the_published_schemas(client):
    job = next(one for one in client.fine_tuning.jobs.list() if one.status == "succeeded")
    required = {
        "id", "object", "created_at", "error", "fine_tuned_model", "finished_at", "hyperparameters",
        "model", "organization_id", "result_files", "status", "trained_tokens", "training_file",
        "validation_file", "seed",
    }  # fmt: skip
    assert required <= job.model_fields_set
    file = client.files.retrieve(job.training_file)
    assert len(client.files.content(file.id).content) == file.bytes
    tune = client.fine_tunes.list().data[0]
    assert tune.training_files[0].object == "file"
    assert client.fine_tunes.retrieve(tune.id).events
    run = client.evals.runs.list(client.evals.list().data[0].id).data[0]
    items = list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id))
    assert len(items) == run.result_counts.total


def test_training_files_are_good_training_data(client, tmp_path):
    for job in client.fine_tuning.jobs.list():
        if job.method.type == "reinforcement":
            continue
        path = tmp_path / f"{job.id}.jsonl"
        client.files.content(job.training_file).write_to_file(path)
        report = check_file(path)
        assert not report.errors, (job.method.type, report)


def test_result_tables_come_as_they_are_or_in_base64(client):
    kinds = set()
    for job in client.fine_tuning.jobs.list():
        for file_id in job.result_files:
            content = client.files.content(file_id).content
            plain = content.startswith(b"step,")
            kinds.add(plain)
            table = content if plain else base64.b64decode(content)
            assert table.startswith(b"step,train_loss")
            assert client.fine_tuning.jobs.results(job.id)
    assert kinds == {True, False}


def test_models_answer_as_trained():
    made = recorded_organization(quirks=Quirks.none(), wrong=0, wavering=0)
    with made as organization:
        for position, project in enumerate(organization.projects):
            with organization.client(project) as client:
                for model in organization.contents.models_of(position):
                    if model.base == "babbage-002":
                        continue
                    prompt = model.task.messages(77_000_001)
                    made = client.chat.completions.create(model=model.name, messages=prompt)
                    again = client.chat.completions.create(model=model.name, messages=prompt)
                    said = made.choices[0].message
                    assert said == again.choices[0].message
                    right = model.task.solve(prompt[-1]["content"])
                    assert said.content == right["content"]
                    assert bool(said.tool_calls) == ("tool_calls" in right)
                    assert made.model == model.name
                    assert made.usage.total_tokens > 0


def test_a_share_of_answers_is_wrong_and_a_share_wavers():
    with recorded_organization(quirks=Quirks.none(), wrong=0.2, wavering=0.2) as organization:
        model = organization.contents.models_of(0)[0]
        texts = [model.task.prompt(number) for number in range(300)]
        answers = organization._service.answers
        asked = [[{"role": "user", "content": text}] for text in texts]
        first = [answers.message("m", model.task, one, {}) for one in asked]
        second = [answers.message("m", model.task, one, {}) for one in asked]
        changed = sum(one != two for one, two in zip(first, second, strict=True))
        wrong = sum(one != model.task.solve(text) for one, text in zip(first, texts, strict=True))
    assert 30 < changed < 90
    assert 30 < wrong < 90


def test_log_probabilities_streams_and_limits(calm, client):
    model = next(one for one in calm.contents.models_of(0) if one.base != "babbage-002")
    options: dict[str, Any] = {"model": model.name, "messages": [ASKED], "seed": 1}
    whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=3)
    entries = whole.choices[0].logprobs.content
    assert "".join(one.token for one in entries) == whole.choices[0].message.content
    assert all(len(one.top_logprobs) == 3 and one.logprob <= 0 for one in entries)
    stream = client.chat.completions.create(
        **options, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    short = client.chat.completions.create(**options, max_completion_tokens=1)
    if len(entries) > 1:
        assert short.choices[0].finish_reason == "length"


def test_a_model_that_was_shut_down_is_not_found(calm, client):
    shut = [one for one in calm.contents._fine_tuned.values() if not one.is_alive]
    assert shut
    for model in shut:
        with pytest.raises(tunesmith.NotFoundError) as caught:
            client.chat.completions.create(model=model.name, messages=[ASKED])
        assert caught.value.code == "model_not_found"


def test_another_projects_things_are_not_found(calm):
    first, second = calm.projects
    with calm.client(first) as client:
        file = client.files.list(limit=1).data[0]
        job = client.fine_tuning.jobs.list(limit=1).data[0]
    with calm.client(second, retry=NO_RETRY) as client:
        for call in (
            lambda: client.files.retrieve(file.id),
            lambda: client.files.content(file.id),
            lambda: client.fine_tuning.jobs.retrieve(job.id),
        ):
            with pytest.raises(tunesmith.NotFoundError):
                call()


def test_keys_of_the_wrong_kind_are_refused(calm):
    admin = tunesmith.Client(calm.admin_key, base_url=calm.base_url, retry=NO_RETRY)
    with admin, pytest.raises(tunesmith.AuthenticationError, match="admin key"):
        admin.files.list()
    key = calm.keys[calm.projects[0]]
    plain = tunesmith.Client(key, base_url=calm.base_url, retry=NO_RETRY)
    with plain, pytest.raises(tunesmith.AuthenticationError, match="use an admin key"):
        plain.admin.organization.projects.list()
    other = plain.with_options(api_key="sk-other")
    with other, pytest.raises(tunesmith.AuthenticationError):
        other.models.list()
    user = tunesmith.Client(calm.user_key, base_url=calm.base_url, project=calm.projects[1])
    with user, calm.client(calm.projects[1]) as own:
        assert [one.id for one in user.files.list()] == [one.id for one in own.files.list()]


@pytest.fixture
def own_client() -> Any:
    """A client of an organisation that the test may change."""
    with recorded_organization(quirks=Quirks.none()) as organization, organization.client() as one:
        yield one


def test_an_upload_can_be_trained_on_and_batched(own_client):
    client = own_client
    rows = [
        {"messages": [{"role": "user", "content": f"{at}?"}, {"role": "assistant", "content": "!"}]}
        for at in range(10)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert client.files.content(file.id).content == content
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18", training_file=file.id, suffix="mine"
    )
    assert job.status == "succeeded"
    lines = [
        {"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": job.fine_tuned_model, "messages": row["messages"][:1]}}
        for at, row in enumerate(rows)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    batched = client.files.create(file=("batch.jsonl", text), purpose="batch")
    batch = client.batches.create(input_file_id=batched.id, endpoint="/v1/chat/completions")
    assert batch.status == "validating"
    states = [client.batches.retrieve(batch.id) for _ in range(2)]
    assert [one.status for one in states] == ["in_progress", "completed"]
    answers = client.files.content(states[-1].output_file_id).text.splitlines()
    found = {one["custom_id"]: one for one in map(json.loads, answers)}
    assert len(found) == 10
    assert found["3"]["response"]["body"]["choices"][0]["message"]["content"] == "!"
    twice = client.files.create(file=("b.jsonl", text + text), purpose="batch")
    failed = client.batches.create(input_file_id=twice.id, endpoint="/v1/chat/completions")
    assert (failed.status, failed.errors.data[0].code) == ("failed", "duplicate_custom_id")


def test_faults_are_told_as_what_they_are():
    quirks = Quirks(deleted=0.1, expired=0.1, forbidden=0.1, listed_only=0.1, short=0.1, cut=0.1)
    with recorded_organization(quirks=quirks) as organization:
        statuses: dict[str, set[int]] = {}
        contents = organization.contents
        for number in range(contents.file_count):
            project = contents.projects[contents.file_project(number)]
            with organization.client(project, retry=NO_RETRY) as client:
                fate = contents.fate(number)
                try:
                    content = client.files.content(contents.file_id(number)).content
                except tunesmith.APIStatusError as error:
                    statuses.setdefault(fate, set()).add(error.status_code)
                    continue
                except tunesmith.APIConnectionError:
                    statuses.setdefault(fate, set()).add(0)
                    continue
                size = contents.file(number)["bytes"]
                statuses.setdefault(fate, set()).add(200 if len(content) == size else 206)
    assert statuses == {
        "whole": {200}, "slow": {200}, "deleted": {404}, "expired": {410}, "forbidden": {403},
        "listed_only": {404}, "short": {206}, "cut": {0},
    }  # fmt: skip


def test_pages_have_their_quirks():
    quirks = Quirks(listed_only=0.2, deleted=0, expired=0, forbidden=0)
    made = recorded_organization(quirks=quirks)
    with made as organization, organization.client(retry=NO_RETRY) as client:
        pages: list[Any] = []
        for file in client.files.list().data:
            try:
                pages.append(client.files.with_raw_response.list(limit=2, after=file.id).json())
            except tunesmith.NotFoundError as error:
                pages.append(error)
                with pytest.raises(tunesmith.NotFoundError):
                    client.files.retrieve(file.id)
        found = [one for one in pages if isinstance(one, dict)]
        assert len(found) < len(pages)
        assert any(one["has_more"] and not one["data"] for one in found)
        assert any(len(one["data"]) == 3 for one in found)


def test_rate_limits_have_their_header_fields():
    made = recorded_organization(quirks=Quirks(requests_per_second=5))
    with made as organization, organization.client(retry=NO_RETRY) as client:
        raw = client.models.with_raw_response.list()
        assert raw.headers["x-ratelimit-limit-requests"] == "5"
        assert raw.headers["x-ratelimit-remaining-requests"] == "4"
        assert raw.headers["x-ratelimit-reset-requests"].endswith("ms")

        def ask_often() -> None:
            for _ in range(10):
                client.models.list()

        with pytest.raises(tunesmith.RateLimitError) as caught:
            ask_often()
        assert float(caught.value.response.headers["retry-after-ms"]) > 0
        time.sleep(0.3)
        client.models.list()


def test_azure_has_both_forms_of_addresses(azure):
    key = azure.keys[azure.projects[0]]
    new = AzureClient(azure_endpoint=azure.azure_endpoint, api_version="v1", api_key=key)
    old = AzureClient(azure_endpoint=azure.azure_endpoint, api_version="2024-10-21", api_key=key)
    with new, old:
        files = [one.id for one in new.files.list()]
        assert [one.id for one in old.files.list()] == files
        name, model = next(iter(azure.deployments.items()))
        assert ".ft-" in model
        for client in (new, old):
            made = client.chat.completions.create(model=name, messages=[ASKED])
            assert made.choices[0].message
        with pytest.raises(tunesmith.NotFoundError) as caught:
            new.chat.completions.create(model=model, messages=[ASKED])
        assert caught.value.code == "DeploymentNotFound"
        job = next(one for one in new.fine_tuning.jobs.list() if one.status == "succeeded")
        assert new.files.content(job.training_file).content.startswith(b"\xef\xbb\xbf")


def test_it_talks_plain_http(calm):
    host = calm.azure_endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    key = {"authorization": f"Bearer {calm.keys[calm.projects[0]]}"}
    for path, status in (("/v1/models", 200), ("/v1/nothing", 404), ("/other", 404)):
        connection.request("GET", path, headers=key)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        assert answer.status == status
        if status != 200:
            assert set(body["error"]) == {"message", "type", "param", "code"}
    chunked = {**key, "transfer-encoding": "chunked", "content-type": "application/json"}
    body = json.dumps({"model": "gpt-4o-2024-08-06", "messages": [ASKED]}).encode()
    connection.request(
        "POST", "/v1/chat/completions", body=iter([body[:9], body[9:]]), headers=chunked,
        encode_chunked=True,
    )  # fmt: skip
    assert json.loads(connection.getresponse().read())["object"] == "chat.completion"
    connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_ten_thousand_files_cost_their_ids():
    program = PEAK + (
        "from tunesmith.testing import recorded_organization\n"
        "before = peak_mebibytes()\n"
        "with recorded_organization(files=10_000, jobs=2_000) as organization:\n"
        "    after = peak_mebibytes()\n"
        "print(int(after - before))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 40


def test_it_needs_the_core_alone():
    program = (
        "import sys\n"
        "from tunesmith.testing import recorded_organization\n"
        "with recorded_organization(): pass\n"
        "heavy = {'httpx', 'pydantic', 'torch', 'fastapi', 'sqlalchemy', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_too_few_files_are_refused():
    with pytest.raises(ValueError, match="too few"):
        recorded_organization(files=5, jobs=2)
