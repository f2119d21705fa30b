"""Answers recorded over real sockets: written down, resumed, limited, refused, compared."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from http_stub import Stub, answer
from recorded import chat, question
from tunesmith import AsyncClient, AuthenticationError, Client, NotFoundError, RetryPolicy, migrate
from tunesmith.migrate import Prices, Recording, RecordingError, estimate_cost, record
from tunesmith.migrate.archive import folder_name
from tunesmith.migrate.recordings import answer_key

MODEL = "ft:gpt-4o-mini-2024-07-18:acme::AbC123"
KEY = "sk-sentinel-do-not-show-4711"
FAST = RetryPolicy(max_retries=1, initial_delay=0.01, max_delay=0.02)


@pytest.fixture
def stub():
    server = Stub()
    server.handle = lambda request: answer(
        chat(f"echo {request.json['messages'][-1]['content']}"), **{"x-request-id": "req-1"}
    )
    yield server
    server.close()


@pytest.fixture
def client(stub):
    with Client(KEY, base_url=stub.url, retry=FAST) as one:
        yield one


def prompts(count=10):
    return [question(str(number), reference="x") for number in range(count)]


def test_answers_are_asked_repeatably_and_written_down_whole(client, stub, tmp_path):
    outcome = record(client, MODEL, prompts(), tmp_path, twice=0.3)
    assert (outcome.requests, outcome.failed, outcome.is_complete) == (13, 0, True)
    body = stub.requests[0].json
    assert body["model"] == MODEL
    assert (body["temperature"], body["top_p"], body["n"], body["seed"]) == (0, 1, 1, 0)
    assert (body["logprobs"], body["top_logprobs"], body["store"]) == (True, 5, False)
    found = Recording.read(outcome.folder)
    assert found.model == MODEL
    assert len(found.prompts) == 10
    assert sum(repeat == 1 for _, repeat in found.answers) == 3
    one = next(iter(found.answers.values()))
    assert one.response["usage"]["prompt_tokens"] == 5
    assert one.request_id == "req-1"
    assert one.seconds > 0
    sent = {name: value for name, value in body.items() if name != "model"}
    assert one.key in {answer_key(MODEL, sent, 0)} | {a.key for a in found.answers.values()}
    assert found.facts["purpose"] == "evaluation"
    assert "services-agreement" in found.facts["terms"]


def test_the_key_is_the_sha256_of_model_body_and_repeat(client, tmp_path):
    import hashlib

    outcome = record(client, MODEL, prompts(1), tmp_path)
    (one,) = Recording.read(outcome.folder).answers.values()
    body = {**migrate.recorder.RECORDING_SETTINGS, **prompts(1)[0].body}
    text = json.dumps([MODEL, body, 0], sort_keys=True, separators=(",", ":"))
    assert one.key == hashlib.sha256(text.encode()).hexdigest()


def test_a_second_run_asks_only_what_is_new(client, stub, tmp_path):
    record(client, MODEL, prompts(4), tmp_path)
    outcome = record(client, MODEL, prompts(6), tmp_path)
    assert (outcome.requests, outcome.reused) == (2, 4)
    assert len(stub.requests) == 6


def test_both_modes_record_the_same(client, stub, tmp_path):
    async def run():
        async with AsyncClient(KEY, base_url=stub.url, retry=FAST) as one:
            return await migrate.record_async(one, MODEL, prompts(), tmp_path / "a", twice=0.5)

    outcome = asyncio.run(run())
    record(client, MODEL, prompts(), tmp_path / "b", twice=0.5)
    assert outcome.requests == 15
    first, second = (Recording.read(tmp_path / n / folder_name(MODEL)) for n in "ab")
    assert {one.key for one in first.answers.values()} == {o.key for o in second.answers.values()}


def test_completions_go_to_their_own_path_with_their_own_settings(client, stub, tmp_path):
    stub.handle = lambda _: answer(
        {"id": "c", "object": "text_completion", "created": 1, "model": "m",
         "choices": [{"text": " yes", "index": 0, "finish_reason": "stop", "logprobs": None}]}
    )  # fmt: skip
    record(client, "davinci-002", [migrate.Prompt({"prompt": "a ->", "stop": ["\n"]})], tmp_path)
    request = stub.requests[0]
    assert request.path.endswith("/completions")
    assert "chat" not in request.path
    assert request.json["logprobs"] == 5
    assert "top_logprobs" not in request.json
    assert "store" not in request.json


def test_settings_are_changed_and_left_out(client, stub, tmp_path):
    record(client, MODEL, prompts(1), tmp_path, settings={"seed": 7, "store": None})
    assert stub.requests[0].json["seed"] == 7
    assert "store" not in stub.requests[0].json
    with pytest.raises(RecordingError, match="was begun with"):
        record(client, MODEL, prompts(1), tmp_path)


def test_a_setting_that_the_service_refuses_is_named(client, stub, tmp_path):
    error = {"message": "Unsupported parameter", "type": "invalid_request_error",
             "param": "top_logprobs", "code": "unsupported_parameter"}  # fmt: skip
    stub.handle = lambda _: answer({"error": error}, 400)
    with pytest.raises(RecordingError, match=r"refuses the setting top_logprobs"):
        record(client, MODEL, prompts(3), tmp_path)
    stub.handle = lambda _: answer(chat("now"))
    outcome = record(client, MODEL, prompts(3), tmp_path)
    assert outcome.requests == 3


def test_a_prompt_that_the_service_refuses_is_not_asked_again(client, stub, tmp_path):
    error = {"message": "too long", "type": "invalid_request_error", "param": "messages",
             "code": "context_length_exceeded"}  # fmt: skip

    def handle(request):
        if request.json["messages"][-1]["content"] == "1":
            return answer({"error": error}, 400)
        return answer(chat("x"))

    stub.handle = handle
    outcome = record(client, MODEL, prompts(3), tmp_path)
    assert (outcome.requests, outcome.failed) == (3, 0)
    assert record(client, MODEL, prompts(3), tmp_path).requests == 0


def test_what_fails_for_a_time_is_asked_again_by_the_next_run(client, stub, tmp_path):
    stub.handle = lambda _: answer({"error": {"message": "broken"}}, 500)
    outcome = record(client, MODEL, prompts(3), tmp_path)
    assert outcome.failed == 3
    assert not outcome.is_complete
    assert sum(outcome.errors.values()) == 3
    stub.handle = lambda _: answer(chat("x"))
    assert record(client, MODEL, prompts(3), tmp_path).is_complete


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(401, "invalid_api_key", AuthenticationError), (404, "model_not_found", NotFoundError)],
)
def test_a_gone_model_or_a_wrong_key_ends_the_run(client, stub, tmp_path, *, status, code, kind):
    stub.handle = lambda _: answer({"error": {"message": "no", "code": code}}, status)
    with pytest.raises(kind):
        record(client, MODEL, prompts(500), tmp_path)
    assert len(stub.requests) < 100


def test_429_slows_down_and_loses_nothing(client, stub, tmp_path):
    refused = []

    def handle(request):
        text = request.json["messages"][-1]["content"]
        if text not in refused and int(text) % 3 == 0:
            refused.append(text)
            return answer({"error": {"message": "slow"}}, 429, **{"retry-after": "0.01"})
        return answer(chat(f"echo {text}"))

    stub.handle = handle
    outcome = record(client, MODEL, prompts(30), tmp_path)
    assert outcome.is_complete
    found = Recording.read(outcome.folder)
    texts = {a.response["choices"][0]["message"]["content"] for a in found.answers.values()}
    assert texts == {f"echo {number}" for number in range(30)}


def test_a_limit_of_tokens_or_money_stops_cleanly_and_the_next_run_continues(
    client, stub, tmp_path
):
    outcome = record(client, MODEL, prompts(50), tmp_path, max_tokens=100)
    assert outcome.stopped == "the limit of 100 tokens"
    assert 0 < outcome.requests < 50
    assert outcome.prompt_tokens + outcome.completion_tokens <= 100
    prices = Prices(1_000_000, 1_000_000)
    outcome = record(client, MODEL, prompts(50), tmp_path, max_cost=80, prices=prices)
    assert outcome.stopped == "the limit of 80.00 in money"
    assert outcome.cost <= 80
    outcome = record(client, MODEL, prompts(50), tmp_path)
    assert outcome.is_complete
    assert len(stub.requests) == 50
    with pytest.raises(RecordingError, match="needs the prices"):
        record(client, MODEL, prompts(1), tmp_path, max_cost=1)


def test_the_estimate_counts_what_is_still_to_be_asked(client, tmp_path):
    prices = Prices(0.3, 1.2)
    full = estimate_cost(MODEL, prompts(10), tmp_path, twice=0.2, prices=prices)
    assert (full.requests, full.reused) == (12, 0)
    assert full.prompt_tokens == 12 * 8  # one token, three for the message, three for the answer...
    assert full.cost == pytest.approx(
        (full.prompt_tokens * 0.3 + full.completion_tokens * 1.2) / 1e6
    )
    batch = estimate_cost(MODEL, prompts(10), tmp_path, twice=0.2, prices=prices, is_batch=True)
    assert batch.cost == pytest.approx(full.cost / 2)
    record(client, MODEL, prompts(10), tmp_path, twice=0.2)
    assert estimate_cost(MODEL, prompts(10), tmp_path, twice=0.2).requests == 0


def test_no_key_reaches_the_recording_and_only_its_owner_reads_it(client, tmp_path):
    outcome = record(client, MODEL, prompts(2), tmp_path)
    for path in outcome.folder.iterdir():
        assert KEY not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    assert outcome.folder.stat().st_mode & 0o077 == 0


def test_another_models_folder_is_refused(client, tmp_path):
    outcome = record(client, MODEL, prompts(1), tmp_path)
    other = tmp_path / folder_name("other")
    outcome.folder.rename(other)
    with pytest.raises(RecordingError, match="has the answers of"):
        record(client, "other", prompts(1), tmp_path)


def test_a_line_that_was_cut_off_is_asked_again_and_a_damaged_one_is_named(client, tmp_path):
    outcome = record(client, MODEL, prompts(3), tmp_path)
    path = outcome.folder / "answers.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert record(client, MODEL, prompts(3), tmp_path).requests == 1
    assert len(Recording.read(outcome.folder).answers) == 3
    path.write_bytes(whole.replace(b'"repeat":0', b'"repeat":', 1))
    with pytest.raises(RecordingError, match=r"answers\.jsonl:1 is damaged"):
        Recording.read(outcome.folder)


def test_a_prompt_that_was_changed_by_hand_is_named(client, tmp_path):
    outcome = record(client, MODEL, prompts(1), tmp_path)
    path = outcome.folder / "requests.jsonl"
    path.write_text(path.read_text().replace('"content":"0"', '"content":"1"'))
    with pytest.raises(RecordingError, match="its id does not fit its body"):
        Recording.read(outcome.folder)


@pytest.mark.slow
def test_killed_again_and_again_every_prompt_is_answered_once(stub, tmp_path):
    """Of an answer that was written down none is asked again; only those in flight are."""
    asked = []

    def handle(request):
        text = request.json["messages"][-1]["content"]
        asked.append(text)
        time.sleep(0.02)
        return answer(chat(f"echo {text}"))

    stub.handle = handle
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from tunesmith import Client, migrate\n"
        "prompts = [migrate.Prompt({'messages': [{'role': 'user', 'content': str(n)}]})\n"
        "           for n in range(120)]\n"
        f"with Client('k', base_url={stub.url!r}) as client:\n"
        f"    migrate.record(client, 'm', prompts, {str(tmp_path / 'r')!r}, concurrency=4)\n"
    )
    folder = tmp_path / "r" / folder_name("m")
    environment = {**os.environ, "PYTHONPATH": str(Path(migrate.__file__).parents[2])}
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, str(script)], env=environment)
        seen = len(asked)
        while process.poll() is None and len(asked) < seen + 25:
            time.sleep(0.005)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 3
    found = Recording.read(folder)
    assert len(found.answers) == 120
    lines = (folder / "answers.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 120
    assert len(asked) <= 120 + kills * 4


def test_a_recording_is_compared_with_a_model_that_answers_as_it_did(client, tmp_path):
    old = record(client, "old", prompts(20), tmp_path, twice=0.5)
    new = record(client, "new", prompts(20), tmp_path)
    comparison = migrate.compare(old.folder, new.folder)
    assert comparison.measure("exact_match").value.estimate == 1
    assert comparison.twice == 10
    assert comparison.measure("seconds").difference is not None


def judging(request):
    """A judge that says by the schema what it was asked for; it knows answers with `echo`."""
    schema = request.json["response_format"]["json_schema"]["schema"]
    text = request.json["messages"][-1]["content"]
    kind = schema["properties"]["result"]
    good = "echo" in text
    result = (0.9 if good else 0.2) if kind["type"] == "number" else ("good" if good else "bad")
    return answer(chat(json.dumps({"result": result})))


JUDGES = [
    {"type": "score_model", "name": "score", "model": "judge", "range": [0, 1],
     "input": [{"role": "user", "content": "Rate {{ sample.output_text }}"}]},
    {"type": "label_model", "name": "label", "model": "judge", "labels": ["good", "bad"],
     "passing_labels": ["good"],
     "input": [{"role": "user", "content": "Judge {{ sample.output_text }}"}]},
]  # fmt: skip


@pytest.mark.parametrize("is_async", [False, True])
def test_judges_are_asked_blindly_about_both_sides(client, stub, tmp_path, is_async):
    old = record(client, "old", prompts(12), tmp_path)
    stub.handle = lambda _: answer(chat("nothing"))
    new = record(client, "new", prompts(12), tmp_path)
    stub.handle = judging
    before = len(stub.requests)
    if is_async:

        async def run():
            async with AsyncClient(KEY, base_url=stub.url, retry=FAST) as one:
                return await migrate.compare_async(
                    old.folder, new.folder, graders=JUDGES, client=one
                )

        comparison = asyncio.run(run())
    else:
        comparison = migrate.compare(old.folder, new.folder, graders=JUDGES, client=client)
    asked = [request.json for request in stub.requests[before:]]
    assert len(asked) == 48
    assert not any(word in json.dumps(body) for body in asked for word in ('"old"', '"new"'))
    score, label = comparison.measure("score"), comparison.measure("label")
    assert (score.value.estimate, score.old.estimate) == pytest.approx((0.2, 0.9))
    assert (label.value.estimate, label.old.estimate) == (0, 1)
    assert label.mcnemar.first_only == 12
    sides = ["echo" in json.dumps(body["messages"]) for body in asked]
    assert sides != sorted(sides)
    assert sides != sorted(sides, reverse=True)


def test_a_judge_that_does_not_answer_lowers_no_score_and_is_named(client, stub, tmp_path):
    old = record(client, "old", prompts(4), tmp_path)
    stub.handle = lambda _: answer({"error": {"message": "down"}}, 400)
    comparison = migrate.compare(old.folder, old.folder, graders=JUDGES[:1], client=client)
    assert comparison.measure("score") is None
    assert any("8 answers have no score" in one for one in comparison.warnings)
