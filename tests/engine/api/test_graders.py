"""Graders over HTTP: judged by the tiny model, refused with the field at fault."""

from __future__ import annotations

import asyncio
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import tunesmith
from tunesmith.engine import Engine, PythonGraders, start
from tunesmith.testing import write_tiny_home

SIMPLE: dict[str, Any] = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
JUDGE: dict[str, Any] = {
    "type": "score_model",
    "name": "judge",
    "model": "tiny",
    "input": [{"role": "user", "content": "Score {{ sample.output_text }}."}],
    "sampling_params": {"temperature": 1, "top_p": 1, "seed": 42},
}
ERRORS = {
    "formula_parse_error", "sample_parse_error", "truncated_observation_error",
    "unresponsive_reward_error", "invalid_variable_error", "other_error",
    "python_grader_server_error", "python_grader_server_error_type",
    "python_grader_runtime_error", "python_grader_runtime_error_details",
    "model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error",
    "model_grader_server_error_details",
}  # fmt: skip


def run(http: httpx.Client, grader: Any, sample: Any = "Paris", **body: Any) -> httpx.Response:
    body = {"grader": grader, "model_sample": sample, "item": {"answer": "Paris"}} | body
    return http.post("fine_tuning/alpha/graders/run", json=body)


def test_an_answer_has_the_published_shape(http):
    answer = run(http, SIMPLE).json()
    assert set(answer) == {
        "reward", "metadata", "sub_rewards", "model_grader_token_usage_per_model",
    }  # fmt: skip
    metadata = answer["metadata"]
    assert set(metadata) == {
        "name", "type", "errors", "execution_time", "scores", "token_usage", "sampled_model_name",
    }  # fmt: skip
    assert set(metadata["errors"]) == ERRORS
    assert not any(metadata["errors"].values())
    assert (answer["reward"], metadata["name"], metadata["type"]) == (1, "exact", "string_check")
    assert metadata["token_usage"] is None
    assert run(http, SIMPLE, "Rome").json()["reward"] == 0


def test_both_clients_run_and_validate(engine: Engine):
    with engine.client() as client:
        graders = client.fine_tuning.alpha.graders
        result = graders.run(grader=SIMPLE, model_sample="Paris", item={"answer": "Paris"})
        assert result.reward == 1
        assert graders.validate(grader=SIMPLE).grader == SIMPLE
        with pytest.raises(tunesmith.BadRequestError, match="operation"):
            graders.validate(grader=SIMPLE | {"operation": "is"})

    async def ask() -> float:
        async with tunesmith.AsyncClient(base_url=engine.base_url, api_key="any") as other:
            graders = other.fine_tuning.alpha.graders
            assert (await graders.validate(grader=JUDGE)).grader == JUDGE
            return (await graders.run(grader=JUDGE, model_sample="Paris")).reward

    assert 0 <= asyncio.run(ask()) <= 1


@pytest.mark.parametrize("limits", [None, [0, 1], [-5, 5], [1, 10], [0.25, 0.5]])
def test_a_judges_score_is_within_its_range(http, limits):
    scores = set()
    for seed in range(6):
        grader = JUDGE | {"range": limits, "sampling_params": {"seed": seed, "temperature": 1.5}}
        answer = run(http, grader).json()
        assert not any(answer["metadata"]["errors"].values()), answer
        scores.add(answer["reward"])
        usage = answer["model_grader_token_usage_per_model"]["tiny"]
        assert answer["metadata"]["token_usage"] == usage["total_tokens"]
        assert answer["metadata"]["sampled_model_name"] == "tiny"
    lowest, highest = limits or (0, 1)
    assert all(lowest <= score <= highest for score in scores)
    assert limits != [1, 10] or len(scores) > 1  # the seed counts


def test_sampling_parameters_are_honoured(http):
    grader = JUDGE | {"sampling_params": {"temperature": 1.5, "seed": 7}}
    assert run(http, grader).json()["reward"] == run(http, grader).json()["reward"]
    short = run(http, JUDGE | {"sampling_params": {"max_completions_tokens": 1}}).json()
    assert short["model_grader_token_usage_per_model"]["tiny"]["completion_tokens"] == 1
    assert short["metadata"]["errors"]["model_grader_parse_error"]
    assert short["reward"] == 0


def test_a_label_is_one_of_the_graders(http):
    labels = ["fine", "so so", "bad"]
    rewards = set()
    for seed in range(8):
        grader = JUDGE | {
            "type": "label_model", "labels": labels, "passing_labels": ["fine", "so so"],
            "sampling_params": {"seed": seed, "temperature": 2},
        }  # fmt: skip
        answer = run(http, grader).json()
        assert not any(answer["metadata"]["errors"].values()), answer
        rewards.add(answer["reward"])
    assert rewards <= {0, 1}


def test_a_multi_grader_asks_its_judges_and_computes(http):
    close = SIMPLE | {"type": "text_similarity", "evaluation_metric": "rouge_l", "name": "b"}
    del close["operation"]
    grader = {
        "type": "multi", "name": "all",
        "graders": {"a": SIMPLE, "b": close, "c": JUDGE, "d": JUDGE},
        "calculate_output": "(a + b) / 2 + 0 * c + 0 * d",
    }  # fmt: skip
    answer = run(http, grader).json()
    assert answer["reward"] == 1
    assert set(answer["sub_rewards"]) == {"a", "b", "c", "d"}
    usage = answer["model_grader_token_usage_per_model"]["tiny"]
    assert usage["prompt_tokens"] % 2 == 0  # both judges'
    assert answer["metadata"]["token_usage"] == usage["total_tokens"]
    assert answer["metadata"]["scores"] == answer["sub_rewards"]


def test_tool_calls_are_graded_from_a_completion(http):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    grader = SIMPLE | {"input": "f", "reference": "{{sample.output_tools[0].function.name}}"}
    for sample in (message, {"choices": [{"index": 0, "message": message}]}):
        assert run(http, grader, sample).json()["reward"] == 1
    assert run(http, grader, "f").json()["metadata"]["errors"]["invalid_variable_error"]


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"grader": SIMPLE | {"reference": "{{ a }}"}}, 400, "grader.reference", "item"),
        ({"grader": {"type": "nothing"}}, 400, "grader.type", "string_check"),
        ({"grader": JUDGE | {"model": "gpt-5-mini"}}, 404, "model", "gpt-5-mini"),
        ({"grader": JUDGE | {"range": [1, 0]}}, 400, "grader.range", "least"),
        (
            {"grader": JUDGE | {"sampling_params": {"reasoning_effort": "low"}}},
            400,
            "grader.sampling_params.reasoning_effort",
            "no such setting",
        ),
        ({"grader": {"type": "python", "source": "x"}}, 400, "grader.type", "engine.toml"),
        ({"grader": []}, 400, "grader", ""),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_by_both(http, body, status, param, words):
    for path, more in (("validate", {}), ("run", {"model_sample": "x"})):
        answer = http.post(f"fine_tuning/alpha/graders/{path}", json=body | more)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param), error
        assert words in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"model_sample": "\ud800"},
        {"item": {"answer": float("inf")}},
        {"item": {"a": json.loads("[" * 300 + "]" * 300)}},
        {"item": [1]},
        {"item": "x"},
        {"model_sample": 5},
        {"grader": SIMPLE | {"name": "\udfff"}},
        {"grader": {"type": "multi", "graders": {"a": SIMPLE}, "calculate_output": "(" * 4000}},
        {"grader": SIMPLE | {"input": "{{" * 100_000}},
        {"grader": SIMPLE | {"input": "{{ item." + "a." * 50_000 + "a }}"}},
        {"grader": SIMPLE | {"type": "text_similarity", "evaluation_metric": "bleu"}},
    ],
    ids=range(11),
)
def test_hostile_bodies_are_no_faults(http, body):
    body = {"grader": SIMPLE, "model_sample": "x", "item": {}} | body
    answer = http.post(
        "fine_tuning/alpha/graders/run",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert http.get("models").status_code == 200


def test_long_texts_do_not_stop_the_engine(http, engine):
    grader = SIMPLE | {"type": "text_similarity", "evaluation_metric": "rouge_5"}
    del grader["operation"]
    text = " ".join(str(number) for number in range(9000))

    def ask() -> float:
        return run(http, grader, text, item={"answer": text[::-1]}).json()["reward"]

    with ThreadPoolExecutor(4) as threads:
        rewards = [threads.submit(ask) for _ in range(8)]
        while not all(one.done() for one in rewards):
            assert httpx.get(engine.base_url.removesuffix("v1") + "healthz").status_code == 200
        assert all(math.isclose(one.result(), 0) for one in rewards)


@pytest.mark.slow
def test_python_graders_run_where_the_settings_allow_it(tmp_path: Path, tiny_base_model: Path):
    write_tiny_home(tmp_path, tiny_base_model)
    settings = PythonGraders(enabled=True, seconds=1)
    source = "def grade(sample, item):\n    return len(sample['output_text']) / item['n']"
    with (
        start(tmp_path, python_graders=settings) as engine,
        httpx.Client(base_url=engine.base_url, timeout=60) as http,
    ):
        grader = {"type": "python", "name": "p", "source": source, "image_tag": "2025-05-08"}
        answer = run(http, grader, "abc", item={"n": 4}).json()
        assert answer["reward"] == 0.75
        failed = run(http, grader, "abc", item={"n": 0}).json()
        assert failed["reward"] == 0
        assert failed["metadata"]["errors"]["python_grader_runtime_error"]
        details = failed["metadata"]["errors"]["python_grader_runtime_error_details"]
        assert "ZeroDivisionError" in details
        spying = "def grade(sample, item):\n    return len(open('/etc/passwd').read())"
        spied = run(http, grader | {"source": spying}).json()
        assert spied["reward"] == 0
        assert (
            "PermissionError" in spied["metadata"]["errors"]["python_grader_runtime_error_details"]
        )
        wrong = http.post(
            "/fine_tuning/alpha/graders/validate", json={"grader": grader | {"source": "def ("}}
        )
        assert wrong.status_code == 400
        assert "SyntaxError" in wrong.json()["error"]["message"]
