"""Answers recorded through the batch API of a recorded organisation: half price, nothing twice."""

import asyncio
import json
import shlex

import pytest

from tunesmith import migrate
from tunesmith.cli import main
from tunesmith.migrate import Prices, Prompt, Recording, RecordingError, record, record_batch
from tunesmith.migrate.batch_recorder import answer_of_line
from tunesmith.testing import Quirks, recorded_organization

from .conftest import FAST

QUICK = {"longest_pause": 0.01}


@pytest.fixture
def calm():
    with recorded_organization(quirks=Quirks.none(), wavering=0) as made:
        yield made


@pytest.fixture
def client(calm):
    with calm.client(retry=FAST) as made:
        yield made


@pytest.fixture
def model(calm):
    found = calm.contents.models_of(0)
    return next(one.name for one in found if one.base.startswith("gpt-4"))


def prompts(count):
    return [Prompt({"messages": [{"role": "user", "content": f"Order {n}"}]}) for n in range(count)]


def answers(folder):
    """Return what was answered, by prompt and repeat."""
    found = Recording.read(folder).answers
    return {
        key: one.response and one.response["choices"][0]["message"] for key, one in found.items()
    }


def lines_asked(organization):
    """Return the key of every line of every batch that was made."""
    service = organization._service
    files = [service.uploaded[one["input_file_id"]][1] for one in service.made_batches.values()]
    return [json.loads(line)["custom_id"] for file in files for line in file.splitlines()]


def test_a_batch_answers_what_single_requests_do(client, model, tmp_path):
    prices = Prices(0.3, 1.2)
    single = record(client, model, prompts(12), tmp_path / "a", twice=0.5, prices=prices)
    batch = record_batch(
        client, model, prompts(12), tmp_path / "b", twice=0.5, prices=prices, **QUICK
    )
    assert answers(batch.folder) == answers(single.folder)
    assert (batch.requests, batch.failed, batch.is_complete) == (18, 0, True)
    assert batch.cost == pytest.approx(single.cost / 2)
    one = next(iter(Recording.read(batch.folder).answers.values()))
    assert one.response["usage"]["prompt_tokens"] > 0
    assert one.request_id.startswith("batch_req_")
    comparison = migrate.compare(single.folder, batch.folder)
    assert comparison.measure("agreement").value.estimate == 1


def test_both_modes_and_a_second_run(calm, model, tmp_path):
    async def run():
        async with calm.async_client(retry=FAST) as client:
            return await migrate.record_batch_async(
                client, model, prompts(5), tmp_path, purpose="evaluation", **QUICK
            )

    assert asyncio.run(run()).requests == 5
    with calm.client(retry=FAST) as client:
        outcome = record_batch(client, model, prompts(8), tmp_path, **QUICK)
    assert (outcome.requests, outcome.reused) == (3, 5)
    assert len(calm._service.made_batches) == 2


def test_completions_have_batches_too(calm, client, tmp_path):
    name = next(
        (one.name for one in calm.contents.models_of(0) if one.base == "babbage-002"), "babbage-002"
    )
    asked = [Prompt({"prompt": f"a {n} ->", "max_tokens": 5}) for n in range(3)]
    outcome = record_batch(client, name, asked, tmp_path, **QUICK)
    assert (outcome.requests, outcome.failed) == (3, 0)
    (batch,) = calm._service.made_batches.values()
    assert batch["endpoint"] == "/v1/completions"


class Killed(BaseException):
    pass


def ended_at(client, step):
    """Let a client's requests end the run: before the so-and-so-many-th, or after its answer."""
    count = 0

    class Resource:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            method = getattr(self._inner, name)

            def call(*args, **options):
                nonlocal count
                count += 1
                if count * 2 - 1 == step:
                    raise Killed
                answer = method(*args, **options)
                if count * 2 == step:
                    raise Killed
                return answer

            return call

    class Proxy:
        base_url = client.base_url
        batches, files = Resource(client.batches), Resource(client.files)

    return Proxy()


def test_ended_at_every_step_and_resumed_nothing_is_asked_twice(calm, client, model, tmp_path):
    whole = record_batch(client, model, prompts(6), tmp_path / "whole", twice=0.5, **QUICK)
    steps = 0
    for step in range(1, 40):
        before = len(lines_asked(calm))
        folder = tmp_path / str(step)
        try:
            record_batch(ended_at(client, step), model, prompts(6), folder, twice=0.5, **QUICK)
        except Killed:
            steps += 1
            outcome = record_batch(client, model, prompts(6), folder, twice=0.5, **QUICK)
            assert outcome.is_complete
        assert answers(next(folder.iterdir())) == answers(whole.folder), step
        asked = lines_asked(calm)[before:]
        assert len(asked) == len(set(asked)) == 9, step
        if steps < step:
            break
    assert steps >= 8


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_lost_batch_is_found_behind_a_hundred_others(calm, client, model, tmp_path, mode):
    """Only the first page of the service's batches was looked at."""
    # Upload, create: the answer to the fourth step, the creation, is lost.
    with pytest.raises(Killed):
        record_batch(ended_at(client, 4), model, prompts(3), tmp_path, **QUICK)
    file = client.files.create(file=("other.jsonl", b'{"custom_id": "other"}'), purpose="batch")
    for _ in range(230):
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions")
    asked = len(lines_asked(calm))

    async def resume():
        async with calm.async_client(retry=FAST) as one:
            return await migrate.record_batch_async(one, model, prompts(3), tmp_path, **QUICK)

    if mode == "async":
        outcome = asyncio.run(resume())
    else:
        outcome = record_batch(client, model, prompts(3), tmp_path, **QUICK)
    assert (outcome.requests, outcome.is_complete) == (3, True)
    assert len(lines_asked(calm)) == asked


def test_ended_while_answers_are_written_the_rest_is_read(calm, client, model, tmp_path):
    def stop(done, _):
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        record_batch(client, model, prompts(6), tmp_path, on_progress=stop, **QUICK)
    outcome = record_batch(client, model, prompts(6), tmp_path, **QUICK)
    assert (outcome.requests, outcome.reused) == (2, 4)
    lines = (outcome.folder / "answers.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 6
    assert len(lines_asked(calm)) == 6


def test_lines_that_fail_are_told_and_asked_again_unless_they_are_wrong(client, model, tmp_path):
    wrong = Prompt({"messages": []})
    outcome = record_batch(client, model, [*prompts(3), wrong], tmp_path, **QUICK)
    assert (outcome.requests, outcome.failed) == (4, 0)
    ((message, count),) = outcome.errors.items()
    assert (message.startswith("400: "), count) == (True, 1)
    again = record_batch(client, model, [*prompts(3), wrong], tmp_path, **QUICK)
    assert (again.requests, again.reused) == (0, 4)


def test_a_model_that_is_gone_answers_no_line(calm, client, tmp_path):
    outcome = record_batch(client, "ft:gpt-4o-2024-08-06:acme::gone", prompts(2), tmp_path, **QUICK)
    assert (outcome.failed, outcome.is_complete) == (2, False)
    assert "does not exist" in next(iter(outcome.errors))
    record_batch(client, "ft:gpt-4o-2024-08-06:acme::gone", prompts(2), tmp_path, **QUICK)
    assert len(calm._service.made_batches) == 2


def test_a_refused_batch_says_why_and_what_to_do(tmp_path):
    with recorded_organization("azure", quirks=Quirks.none()) as azure:
        name = next(iter(azure.deployments))
        with (
            azure.client(retry=FAST) as client,
            pytest.raises(RecordingError, match=r"not supported in batches\. Nothing was paid"),
        ):
            record_batch(client, name, prompts(2), tmp_path, **QUICK)


def test_limits_stop_before_anything_is_sent(calm, client, model, tmp_path):
    outcome = record_batch(client, model, prompts(50), tmp_path, max_tokens=2200, **QUICK)
    assert outcome.stopped == "the limit of 2,200 tokens"
    assert 0 < outcome.requests < 50
    assert len(lines_asked(calm)) == outcome.requests


@pytest.mark.parametrize(
    ("line", "is_final", "words"),
    [
        ({"error": {"code": "batch_expired", "message": "late"}, "response": None}, False, "late"),
        ({"response": {"status_code": 500, "body": {}}}, False, "no reason"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "busy"}}}}, False, "busy"),
        ({"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, True, "no"),
        ({"response": {"status_code": 413, "body": {}}}, True, "no reason"),
        ({}, False, "no reason"),
    ],
)
def test_lines_without_an_answer(line, is_final, words):
    response, error = answer_of_line(line)
    assert response is None
    assert error["is_final"] == is_final
    assert words in error["message"]


def test_the_command(calm, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_BASE_URL", calm.base_url)
    monkeypatch.setenv("TUNESMITH_API_KEY", calm.keys[calm.projects[0]])
    monkeypatch.setattr("tunesmith.migrate.batch_recorder._FIRST_PAUSE", 0.01)
    rows = [{"messages": [*one.body["messages"], {"role": "assistant", "content": "x"}]}
            for one in prompts(4)]  # fmt: skip
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = f"migrate record -m {model} --validation v.jsonl --twice 0 --purpose evaluation --yes"
    prices = " --input-price 300 --output-price 300 --estimate"
    costs = []
    for more in ("", " --batch"):
        assert main(shlex.split(line + prices + more)) == 0
        text = capsys.readouterr().err
        costs.append(float(text.rpartition("about ")[2].split()[0]))
    assert costs[1] == pytest.approx(costs[0] / 2, abs=1e-4)
    assert main(shlex.split(line + " --batch")) == 0
    assert "4 requests now" in capsys.readouterr().out
