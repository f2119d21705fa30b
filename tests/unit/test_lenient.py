"""Every response model: bookkeeping that is missing destroys nothing, identity that is missing says so."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tunesmith import types
from tunesmith.core.decode import decode
from tunesmith.core.lenient import describe_ids, parse_json, read_json
from tunesmith.core.response import Response
from tunesmith.errors import APIResponseValidationError, RequestInfo
from tunesmith.types import WireModel
from tunesmith.types.pages import ListPage

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LOGPROB = {"token": "hi", "bytes": [104, 105], "logprob": -0.5}
CALL = {"id": "call_9", "type": "function", "function": {"name": "add", "arguments": "{}"}}
FILE = {
    "id": "file-1", "object": "file", "bytes": 5, "created_at": 1, "filename": "a.jsonl",
    "purpose": "fine-tune", "status": "processed", "expires_at": 9, "status_details": "x",
}  # fmt: skip
JOB = {
    "id": "ftjob-1", "object": "fine_tuning.job", "created_at": 1, "error": {"code": "c", "message": "m",
    "param": "p"}, "fine_tuned_model": "ft:m", "finished_at": 2, "hyperparameters": {"n_epochs": 3,
    "batch_size": 1, "learning_rate_multiplier": 0.1}, "model": "m", "organization_id": "org-1",
    "result_files": ["file-2"], "seed": 1, "status": "failed", "trained_tokens": 7,
    "training_file": "file-1", "validation_file": "file-3", "estimated_finish": 3, "integrations":
    [{"type": "wandb", "wandb": {"project": "p", "entity": "e", "name": "n", "tags": ["t"]}}],
    "metadata": {"a": "b"}, "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}},
    "user_provided_suffix": "s",
}  # fmt: skip
CHOICE = {
    "index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [{**LOGPROB, "top_logprobs":
    [LOGPROB]}], "refusal": None}, "message": {"role": "assistant", "content": "hi", "refusal": None,
    "annotations": [{"type": "url_citation"}], "tool_calls": [CALL]},
}  # fmt: skip
CHUNK_CHOICE = {
    "index": 0, "finish_reason": "stop", "logprobs": None, "delta": {"role": "assistant", "content":
    "hi", "tool_calls": [{"index": 0, **CALL}]},
}  # fmt: skip
CHAT = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE],
    "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details":
    {"reasoning_tokens": 1}}, "service_tier": "t", "system_fingerprint": "f", "metadata": {"a": "b"},
}  # fmt: skip

# For each model: a whole answer, and the fields without which it is none.
ANSWERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "FileObject": (FILE, {"id"}),
    "FileDeleted": ({"id": "file-1", "object": "file", "deleted": True}, {"id"}),
    "FineTuningJob": (JOB, {"id", "status"}),
    "FineTuningJobEvent": ({"id": "ftevent-1", "object": "fine_tuning.job.event", "created_at": 1,
        "level": "info", "message": "m", "type": "message", "data": {}}, {"message"}),
    "FineTuningJobCheckpoint": ({"id": "ftckpt_1", "object": "fine_tuning.job.checkpoint",
        "created_at": 1, "fine_tuned_model_checkpoint": "ft:m:ckpt", "fine_tuning_job_id": "ftjob-1",
        "metrics": {"step": 1.0, "train_loss": 0.1}, "step_number": 1},
        {"id", "fine_tuned_model_checkpoint"}),
    "FineTune": ({"id": "ft-1", "object": "fine-tune", "created_at": 1, "updated_at": 2, "model": "m",
        "fine_tuned_model": None, "organization_id": "o", "status": "pending", "hyperparams":
        {"n_epochs": 4}, "training_files": [FILE], "validation_files": [], "result_files": [],
        "events": []}, {"id", "status"}),
    "FineTuneEvent": ({"object": "fine-tune-event", "created_at": 1, "level": "info",
        "message": "m"}, {"message"}),
    "Completion": ({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "text": "hi", "finish_reason": "stop", "logprobs": {"tokens":
        ["hi"], "token_logprobs": [-0.5], "top_logprobs": [{"hi": -0.5}], "text_offset": [0]}}],
        "usage": USAGE, "system_fingerprint": "f"}, {"choices"}),
    "ChatCompletion": (CHAT, {"choices"}),
    "ChatCompletionChunk": ({**CHAT, "object": "chat.completion.chunk", "choices": [CHUNK_CHOICE]},
        {"choices"}),
    "ChatCompletionDeleted": ({"id": "c-1", "object": "chat.completion.deleted", "deleted": True},
        {"id"}),
    "ChatCompletionStoreMessage": ({**CHOICE["message"], "id": "c-1-0", "content_parts": []}, set()),
    "Model": ({"id": "m", "object": "model", "created": 1, "owned_by": "o",
        "shutdown_date": "2027-01-14"}, {"id"}),
    "ModelDeleted": ({"id": "m", "object": "model", "deleted": True}, {"id"}),
    "Upload": ({"id": "upload_1", "object": "upload", "bytes": 1, "created_at": 1, "expires_at": 2,
        "filename": "a", "purpose": "fine-tune", "status": "pending", "file": FILE}, {"id", "status"}),
    "UploadPart": ({"id": "part_1", "object": "upload.part", "created_at": 1, "upload_id":
        "upload_1"}, {"id"}),
    "CheckpointPermission": ({"id": "cp_1", "object": "checkpoint.permission", "created_at": 1,
        "project_id": "proj_1"}, {"id"}),
    "CheckpointPermissionDeleted": ({"id": "cp_1", "object": "checkpoint.permission", "deleted":
        True}, {"id"}),
    "GraderRunResponse": ({"reward": 0.5, "metadata": {"errors": {"other_error": False},
        "execution_time": 0.1, "name": "g", "sampled_model_name": None, "scores": {}, "token_usage": 1,
        "type": "string_check"}, "model_grader_token_usage_per_model": {}, "sub_rewards": {}},
        {"reward"}),
    "GraderValidateResponse": ({"grader": {}}, set()),
    "Batch": ({"id": "batch_1", "object": "batch", "endpoint": "/v1/completions", "model": "m",
        "errors": {"object": "list", "data": [{"code": "c", "message": "m", "param": "p", "line": 1}]},
        "input_file_id": "file-1", "completion_window": "24h", "status": "completed",
        "output_file_id": "file-2", "error_file_id": "file-3", "created_at": 1, "completed_at": 2,
        "request_counts": {"total": 2, "completed": 1, "failed": 1}, "usage": {"input_tokens": 1,
        "output_tokens": 1, "total_tokens": 2}, "metadata": {"a": "b"}}, {"id", "status"}),
    "Eval": ({"id": "eval_1", "object": "eval", "name": "n", "created_at": 1, "data_source_config":
        {}, "testing_criteria": [], "metadata": {"a": "b"}}, {"id"}),
    "EvalRun": ({"id": "evalrun_1", "object": "eval.run", "eval_id": "eval_1", "status": "completed",
        "model": "m", "created_at": 1, "report_url": "u", "result_counts": {"total": 1, "passed": 1},
        "per_model_usage": [{"model_name": "m", "total_tokens": 1}], "per_testing_criteria_results":
        [{"testing_criteria": "c", "passed": 1, "failed": 0}], "data_source": {}, "metadata": {},
        "error": {"code": "c"}}, {"id"}),
    "EvalRunOutputItem": ({"id": "outputitem_1", "object": "eval.run.output_item", "run_id":
        "evalrun_1", "eval_id": "eval_1", "created_at": 1, "status": "pass", "datasource_item_id": 0,
        "datasource_item": {}, "results": [], "sample": {}}, {"id"}),
    "Project": ({"id": "proj_1", "object": "organization.project", "created_at": 1, "status":
        "active", "archived_at": 2}, {"id"}),
    "ProjectRateLimit": ({"id": "rl-1", "object": "project.rate_limit", "model": "m",
        "max_requests_per_1_minute": 1, "max_tokens_per_1_minute": 1}, {"id"}),
    "CostBucket": ({"object": "bucket", "start_time": 1, "end_time": 2, "results": [{"object":
        "organization.costs.result", "amount": {"value": 0.5, "currency": "usd"}, "line_item": "l",
        "project_id": "p"}]}, set()),
    "ModelExport": ({"id": "export-1", "object": "model.export", "created_at": 1, "model": "m",
        "format": "peft", "quantization": "f32", "with_base": True, "status": "running", "step": "s",
        "progress": 0.5, "finished_at": 2, "expires_at": 3, "filename": "m.tar", "bytes": 1,
        "sha256": "ab", "comparison": {"divergence": 0.1, "positions": 2}, "error": {"code": "c"}},
        {"id", "status"}),
    "ModelExportDeleted": ({"id": "export-1", "object": "model.export", "deleted": True}, {"id"}),
    "ModelRoute": ({"id": "ft:m", "object": "model_route", "created_at": 1, "updated_at": 2,
        "stage": "mirror", "target": "m", "upstream": "u", "percentage": 1.0, "sticky_by": "user",
        "fallback": True, "keep_contents": False, "timeout_seconds": 1.0}, {"id"}),
    "ModelRouteDeleted": ({"id": "ft:m", "object": "model_route", "deleted": True}, {"id"}),
    "RouteDecision": ({"id": "d-1", "object": "model_route.decision", "created_at": 1.0, "model": "m",
        "stage": "mirror", "side": "upstream", "upstream": {"status": 200, "seconds": 0.1},
        "local": {"status": 200, "usage": {}}, "agreement": {"calls": True, "normalized": True},
        "mirror": "compared", "stream": True}, {"id"}),
}  # fmt: skip

# What an answer's parts cannot do without: the text, the message, the call's name.
IDENTIFYING = {"text", "message", "name", "token", "choices", "function", "content"}


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All fields of an answer that are at home in a model, as paths."""
    found: list[tuple[Any, ...]] = []
    if isinstance(content, dict):
        for name, value in content.items():
            found.append((*path, name))
            if name not in {"metadata", "data", "grader", "scores", "dpo"}:
                found += places(value, (*path, name))
    elif isinstance(content, list):
        for position, item in enumerate(content):
            found += places(item, (*path, position))
    return [one for one in found if isinstance(one[-1], str)]


def changed(content: Any, path: tuple[Any, ...], change: str) -> Any:
    content = json.loads(json.dumps(content))
    place = content
    for step in path[:-1]:
        place = place[step]
    if change == "missing":
        del place[path[-1]]
    else:
        place[path[-1]] = {"null": None, "number": 17, "object": {"what": ["is", "this"]}}[change]
    return content


def received(name: str, content: Any) -> Any:
    request = RequestInfo("GET", "http://localhost/v1/things/1")
    body = json.dumps(content).encode()
    return decode(Response(200, [], body, request), getattr(types, name))


def test_every_response_model_is_listed():
    answers = {
        name for name in types.__all__
        if isinstance(getattr(types, name), type) and issubclass(getattr(types, name), WireModel)
    }  # fmt: skip
    parts = {
        "ListPage", "WireModel", "FineTuningJobSummary", "ParsedChatCompletion", "ParsedChoice",
        "ParsedChatCompletionMessage", "CompletionChoice", "CompletionLogprobs", "CompletionUsage",
        "CompletionTokensDetails", "PromptTokensDetails", "GraderRunErrors", "GraderRunMetadata",
        "FineTuneHyperparams", "BatchError", "BatchErrors", "BatchRequestCounts", "BatchUsage", "Cost",
        "CostAmount", "Costs", "EvalRunError", "EvalRunModelUsage", "EvalRunOutputItemResult",
        "EvalRunResultCounts", "EvalRunTestingCriteriaResult", "ModelExportComparison",
        "ModelExportError", "RouteAgreement", "RouteCurvePoint", "RouteSide",
    }  # fmt: skip
    rest = answers - ANSWERS.keys() - parts
    assert {
        name for name in rest if not name.startswith(("ChatCompletion", "FineTuningJob", "Parsed"))
    } == set()


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer_is_read_as_it_is(name):
    content, _ = ANSWERS[name]
    assert received(name, content).to_dict() == content


@pytest.mark.parametrize("change", ["missing", "null"])
@pytest.mark.parametrize("name", ANSWERS)
def test_bookkeeping_that_is_missing_destroys_nothing(name, change):
    content, identifying = ANSWERS[name]
    for path in places(content):
        if path[-1] in IDENTIFYING or (len(path) == 1 and path[0] in identifying):
            continue
        if path[-1] == "id" and path[0] in {"training_files", "file"}:
            continue
        damaged = changed(content, path, change)
        value = received(name, damaged)
        known = changed(content, path, "missing")
        kept = value.to_dict()
        place = kept
        for step in path[:-1]:
            place = place[step]
        place.pop(path[-1], None)
        assert kept == known, path
        assert value.to_json(), path


@pytest.mark.parametrize("change", ["missing", "null"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_without_its_identity_is_an_error_with_what_was_decoded(name, change):
    content, identifying = ANSWERS[name]
    for field in identifying - {"choices"}:
        damaged = changed(content, (field,), change)
        with pytest.raises(
            APIResponseValidationError, match=rf"is not a {name}: {field}\b"
        ) as caught:
            received(name, damaged)
        assert caught.value.decoded == damaged
        if isinstance(damaged.get("id"), str):
            assert f"It holds id {damaged['id']!r}" in str(caught.value)


@pytest.mark.parametrize("change", ["number", "object"])
@pytest.mark.parametrize(
    ("name", "field"),
    [("ChatCompletion", "id"), ("ChatCompletion", "created"), ("ChatCompletion", "usage"),
     ("ChatCompletion", "system_fingerprint"), ("ChatCompletion", "metadata"), ("Model", "owned_by"),
     ("FileObject", "bytes"), ("FileObject", "purpose"), ("FineTuningJob", "organization_id"),
     ("FineTuningJob", "hyperparameters"), ("FineTuningJob", "integrations"),
     ("FineTuningJob", "method"), ("FineTuningJob", "estimated_finish"), ("Upload", "expires_at"),
     ("FineTuningJobEvent", "level"), ("FineTuneEvent", "created_at")],
)  # fmt: skip
def test_bookkeeping_that_is_unreadable_destroys_nothing(name, field, change):
    content, _ = ANSWERS[name]
    damaged = changed(content, (field,), change)
    kept = received(name, damaged).to_dict()
    kept.pop(field, None)
    assert kept == changed(content, (field,), "missing")


@pytest.mark.parametrize(
    ("name", "path"),
    [("ChatCompletion", ("choices", 0, "message", "tool_calls")),
     ("ChatCompletion", ("choices", 0, "logprobs", "content", 0, "top_logprobs")),
     ("Completion", ("choices", 0, "text")), ("FineTuningJob", ("error",)),
     ("FineTuningJob", ("result_files",)), ("Upload", ("file",))],
)  # fmt: skip
def test_a_part_of_the_answer_itself_is_never_left_out_unsaid(name, path):
    content, _ = ANSWERS[name]
    damaged = changed(content, path, "object")
    if name == "FineTuningJob" and path == ("error",):
        damaged["error"] = 17
    with pytest.raises(APIResponseValidationError) as caught:
        received(name, damaged)
    assert caught.value.decoded == damaged


@pytest.mark.parametrize("name", ["FileObject", "FineTuningJob", "Model", "FineTuneEvent"])
def test_pages(name):
    content, identifying = ANSWERS[name]
    page = ListPage[getattr(types, name)]  # type: ignore[valid-type]
    for path in places(content):
        if path[-1] in identifying | IDENTIFYING or path[-1] == "id":
            continue
        for change in ("missing", "null"):
            body = json.dumps({"data": [changed(content, path, change), None, content]}).encode()
            assert len(read_json(page, body).data) == 2
    assert read_json(page, b'{"object": "list", "data": null}').data == []
    assert len(read_json(page, json.dumps([content]).encode()).data) == 1


def test_defaults_say_what_is_known():
    read = read_json(types.ChatCompletion, b"""{"choices": [
        {"message": {"content": "a", "tool_calls": [{"function": {"name": "f", "arguments": {"x": "\xc3\xa4"}}},
                                                    {"id": null, "function": {"name": "g"}}]}},
        {"message": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]},
         "logprobs": {"content": [{"token": "b", "logprob": null, "top_logprobs": null}]}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}}""")  # fmt: skip
    first, second = read.choices
    assert (first.index, second.index, read.usage.total_tokens) == (0, 1, 5)
    assert [call.id for call in first.message.tool_calls] == ["call_0", "call_1"]
    assert first.message.tool_calls[0].function.arguments == '{"x": "ä"}'
    assert second.message.content == "b"
    assert second.message.content_parts[0]["type"] == "thinking"
    assert math.isnan(second.logprobs.content[0].logprob)
    assert second.logprobs.content[0].top_logprobs == []
    assert "index" not in first.model_fields_set
    assert "id" not in first.message.tool_calls[0].model_fields_set


@pytest.mark.parametrize(
    ("sent", "read"),
    [(1712345678.9, 1712345678), ("1712345678", 1712345678), ("1970-01-01T00:01:00Z", 60),
     ("yesterday", 0), (True, 1), (None, 0)],
)  # fmt: skip
def test_times_are_read_as_servers_send_them(sent, read):
    body = json.dumps({"id": "m", "created": sent}).encode()
    assert read_json(types.Model, body).created == read


def test_text_that_is_no_unicode():
    assert parse_json(b'{"a": "\xf0\x9f", "b": "\\ud83d", "c": "\\ud83d\\ude00", "d": "\\\\ud83d"}') == {
        "a": "�", "b": "�", "c": "😀", "d": "\\ud83d"}  # fmt: skip
    assert parse_json(b'\xef\xbb\xbf{"a": "x\ny"}') == {"a": "x\ny"}
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * 200_000)


def test_ids_come_first_outermost_first():
    assert describe_ids(
        {"training_file": "file-1", "id": "ftjob-1", "events": [{"id": "e-1"}]}
    ) == ("id 'ftjob-1', training_file 'file-1', events[0].id 'e-1'")
    assert describe_ids([1, "x", None]) == ""
