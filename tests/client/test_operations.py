"""Every operation in both modes: the request it sends and the value it returns."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from http_stub import answer, raw
from tunesmith.datasets import PromptFormat

LEGACY = {
    "id": "ft-1",
    "object": "fine-tune",
    "created_at": 1,
    "updated_at": 1,
    "model": "curie",
    "fine_tuned_model": "curie:ft-1",
    "organization_id": "org-1",
    "status": "succeeded",
    "hyperparams": {"n_epochs": 4},
    "training_files": [],
    "validation_files": [],
    "result_files": [],
}
UPLOAD = {
    "id": "upload_1",
    "object": "upload",
    "bytes": 10,
    "created_at": 1,
    "expires_at": 2,
    "filename": "a",
    "purpose": "fine-tune",
    "status": "pending",
    "file": None,
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    ],
}
MODEL = {"id": "m:1", "object": "model", "created": 1, "owned_by": "me"}
GRADER = {"type": "string_check", "name": "g", "input": "a", "reference": "b", "operation": "eq"}
GRADED = {
    "metadata": {"errors": {}, "execution_time": 0.1, "name": "g", "scores": {}, "type": "x"},
    "model_grader_token_usage_per_model": {},
    "reward": 1.0,
    "sub_rewards": {},
}
PERMISSION = {"id": "cp_1", "object": "checkpoint.permission", "created_at": 1, "project_id": "p"}
MESSAGES = [{"role": "user", "content": "hello"}]

# operation, its call, the request line, the JSON body (None: none), the answer
CALLS: list[tuple[str, Any, str, Any, Any]] = [
    ("files.retrieve", lambda c: c.files.retrieve("file-1"), "GET /v1/files/file-1", None, "file"),
    ("files.delete", lambda c: c.files.delete("file-1"), "DELETE /v1/files/file-1", None,
     {"id": "file-1", "object": "file", "deleted": True}),
    ("jobs.create",
     lambda c: c.fine_tuning.jobs.create(model="m", training_file="file-1", suffix=None, seed=3),
     "POST /v1/fine_tuning/jobs",
     {"model": "m", "training_file": "file-1", "suffix": None, "seed": 3}, "job"),
    ("jobs.retrieve", lambda c: c.fine_tuning.jobs.retrieve("ftjob-1"),
     "GET /v1/fine_tuning/jobs/ftjob-1", None, "job"),
    ("jobs.cancel", lambda c: c.fine_tuning.jobs.cancel("ftjob-1"),
     "POST /v1/fine_tuning/jobs/ftjob-1/cancel", None, "job"),
    ("jobs.pause", lambda c: c.fine_tuning.jobs.pause("ftjob-1"),
     "POST /v1/fine_tuning/jobs/ftjob-1/pause", None, "job"),
    ("jobs.resume", lambda c: c.fine_tuning.jobs.resume("ftjob-1"),
     "POST /v1/fine_tuning/jobs/ftjob-1/resume", None, "job"),
    ("fine_tunes.create", lambda c: c.fine_tunes.create(training_file="file-1", n_epochs=2),
     "POST /v1/fine-tunes", {"training_file": "file-1", "n_epochs": 2}, LEGACY),
    ("fine_tunes.retrieve", lambda c: c.fine_tunes.retrieve("ft-1"), "GET /v1/fine-tunes/ft-1",
     None, LEGACY),
    ("fine_tunes.cancel", lambda c: c.fine_tunes.cancel("ft-1"), "POST /v1/fine-tunes/ft-1/cancel",
     None, LEGACY),
    ("completions.create", lambda c: c.completions.create(model="m", prompt="p", stop=[" END"]),
     "POST /v1/completions", {"model": "m", "prompt": "p", "stop": [" END"]}, "completion"),
    ("chat.create", lambda c: c.chat.completions.create(model="m", messages=MESSAGES),
     "POST /v1/chat/completions", {"model": "m", "messages": MESSAGES}, CHAT),
    ("chat.retrieve", lambda c: c.chat.completions.retrieve("chatcmpl-1"),
     "GET /v1/chat/completions/chatcmpl-1", None, CHAT),
    ("chat.update", lambda c: c.chat.completions.update("chatcmpl-1", metadata={"a": "b"}),
     "POST /v1/chat/completions/chatcmpl-1", {"metadata": {"a": "b"}}, CHAT),
    ("chat.delete", lambda c: c.chat.completions.delete("chatcmpl-1"),
     "DELETE /v1/chat/completions/chatcmpl-1", None,
     {"id": "chatcmpl-1", "object": "chat.completion.deleted", "deleted": True}),
    ("models.retrieve", lambda c: c.models.retrieve("ft:m:org::1"), "GET /v1/models/ft:m:org::1",
     None, MODEL),
    ("models.retrieve slash", lambda c: c.models.retrieve("a/b"), "GET /v1/models/a%2Fb", None,
     MODEL),
    ("models.delete", lambda c: c.models.delete("m"), "DELETE /v1/models/m", None,
     {"id": "m", "object": "model", "deleted": True}),
    ("uploads.create",
     lambda c: c.uploads.create(bytes=10, filename="a", mime_type="text/plain", purpose="fine-tune"),
     "POST /v1/uploads",
     {"bytes": 10, "filename": "a", "mime_type": "text/plain", "purpose": "fine-tune"}, UPLOAD),
    ("uploads.complete", lambda c: c.uploads.complete("upload_1", part_ids=["a"]),
     "POST /v1/uploads/upload_1/complete", {"part_ids": ["a"]}, UPLOAD),
    ("uploads.cancel", lambda c: c.uploads.cancel("upload_1"), "POST /v1/uploads/upload_1/cancel",
     None, UPLOAD),
    ("graders.run",
     lambda c: c.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="x", item={"a": 1}),
     "POST /v1/fine_tuning/alpha/graders/run",
     {"grader": GRADER, "model_sample": "x", "item": {"a": 1}}, GRADED),
    ("graders.validate", lambda c: c.fine_tuning.alpha.graders.validate(grader=GRADER),
     "POST /v1/fine_tuning/alpha/graders/validate", {"grader": GRADER}, {"grader": GRADER}),
    ("permissions.delete",
     lambda c: c.fine_tuning.checkpoints.permissions.delete(
         "cp_1", fine_tuned_model_checkpoint="ft:m:ckpt-step-8"),
     "DELETE /v1/fine_tuning/checkpoints/ft:m:ckpt-step-8/permissions/cp_1", None,
     {"id": "cp_1", "object": "checkpoint.permission", "deleted": True}),
    ("get", lambda c: c.get("/anything", cast_to=dict), "GET /v1/anything", None, {"a": 1}),
    ("post", lambda c: c.post("/anything", cast_to=dict, body={"b": 2}), "POST /v1/anything",
     {"b": 2}, {"a": 1}),
]  # fmt: skip

LISTS: list[tuple[str, Any, str, Any]] = [
    ("files.list", lambda c: c.files.list(limit=5, order="asc", purpose="fine-tune"),
     "GET /v1/files?limit=5&order=asc&purpose=fine-tune", "file"),
    ("jobs.list", lambda c: c.fine_tuning.jobs.list(metadata={"a": "b"}),
     "GET /v1/fine_tuning/jobs?metadata%5Ba%5D=b", "job"),
    ("jobs.list none", lambda c: c.fine_tuning.jobs.list(metadata=None),
     "GET /v1/fine_tuning/jobs?metadata=null", "job"),
    ("jobs.list_events", lambda c: c.fine_tuning.jobs.list_events("ftjob-1", limit=10),
     "GET /v1/fine_tuning/jobs/ftjob-1/events?limit=10",
     {"id": "ftevent-1", "created_at": 1, "level": "info", "message": "m"}),
    ("checkpoints.list", lambda c: c.fine_tuning.jobs.checkpoints.list("ftjob-1"),
     "GET /v1/fine_tuning/jobs/ftjob-1/checkpoints",
     {"id": "ftckpt_1", "created_at": 1, "fine_tuned_model_checkpoint": "m",
      "fine_tuning_job_id": "ftjob-1", "metrics": {}, "step_number": 8}),
    ("fine_tunes.list", lambda c: c.fine_tunes.list(), "GET /v1/fine-tunes", LEGACY),
    ("fine_tunes.list_events", lambda c: c.fine_tunes.list_events("ft-1"),
     "GET /v1/fine-tunes/ft-1/events", {"created_at": 1, "level": "info", "message": "m"}),
    ("models.list", lambda c: c.models.list(), "GET /v1/models", MODEL),
    ("chat.list", lambda c: c.chat.completions.list(model="m"), "GET /v1/chat/completions?model=m",
     CHAT),
    ("chat.messages.list", lambda c: c.chat.completions.messages.list("chatcmpl-1"),
     "GET /v1/chat/completions/chatcmpl-1/messages", {"id": "msg_1", "content": "a"}),
    ("permissions.list",
     lambda c: c.fine_tuning.checkpoints.permissions.list("ft:m", order="ascending"),
     "GET /v1/fine_tuning/checkpoints/ft:m/permissions?order=ascending", PERMISSION),
    ("permissions.create",
     lambda c: c.fine_tuning.checkpoints.permissions.create("ft:m", project_ids=["p"]),
     "POST /v1/fine_tuning/checkpoints/ft:m/permissions", PERMISSION),
]  # fmt: skip


@pytest.fixture
def shapes(job, file_object, completion):
    return {"job": job, "file": file_object, "completion": completion}


@pytest.mark.parametrize(
    ("name", "call", "line", "body", "shape"), CALLS, ids=[c[0] for c in CALLS]
)
def test_an_operation(mode, stub, shapes, name, call, line, body, shape):
    content = shapes[shape] if isinstance(shape, str) else shape
    stub.then(answer(content, x_request_id="req_1"))
    found = mode.run(call(mode.client(stub.url)))
    request = stub.requests[0]
    assert f"{request.method} {request.path}" == line
    assert (request.json if request.body else None) == body
    if not isinstance(found, dict):
        assert found.to_dict() == content
        assert found._request_id == "req_1"


@pytest.mark.parametrize(("name", "call", "line", "shape"), LISTS, ids=[c[0] for c in LISTS])
def test_a_list(mode, stub, shapes, name, call, line, shape):
    content = shapes[shape] if isinstance(shape, str) else shape
    page = {"object": "list", "data": [content], "has_more": False}
    stub.then(answer(page), answer(page))
    client = mode.client(stub.url)
    first = mode.run(call(client))
    assert f"{stub.requests[0].method} {stub.requests[0].path}" == line
    assert [item.to_dict() for item in first.data] == [content]
    assert (first.has_more, first.has_next_page(), first.next_page_info()) == (False, False, None)
    assert len(mode.items(call(client))) == 1


def test_pages_follow_each_other(mode, stub, job):
    def handle(request):
        after = request.path.partition("after=")[2]
        number = int(after or 0)
        items = [{**job, "id": str(n)} for n in range(number + 1, number + 3)]
        return answer({"object": "list", "data": items, "has_more": number < 4})

    stub.handle = handle
    client = mode.client(stub.url)
    assert [one.id for one in mode.items(client.fine_tuning.jobs.list())] == list("123456")
    page = mode.run(client.fine_tuning.jobs.list(limit=2))
    assert page.next_page_info() == {"after": "2"}
    page = mode.run(page.get_next_page())
    assert [one.id for one in page.data] == ["3", "4"]
    assert "limit=2" in stub.requests[-1].path


def test_a_server_that_ignores_the_cursor_does_not_loop(mode, stub, job):
    stub.handle = lambda _: answer({"object": "list", "data": [job], "has_more": True})
    client = mode.client(stub.url)
    assert len(mode.items(client.fine_tuning.jobs.list())) == 1
    assert len(stub.requests) == 2


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "handle", "tuple", "generator-like"])
def test_a_file_is_uploaded_from_anything(mode, stub, file_object, tmp_path, kind):
    path = tmp_path / 'tr"äin.jsonl'
    path.write_bytes(b"hello")

    class Unseekable(io.RawIOBase):
        def __init__(self):
            self.left = b"hello"

        def readable(self):
            return True

        def readinto(self, buffer):
            count = len(self.left)
            buffer[:count] = self.left
            self.left = b""
            return count

    with path.open("rb") as handle:
        file = {
            "str": str(path),
            "path": path,
            "bytes": b"hello",
            "handle": handle,
            "tuple": ("named.jsonl", b"hello", "application/jsonl"),
            "generator-like": Unseekable(),
        }[kind]
        stub.then(answer(file_object))
        progress = []
        client = mode.client(stub.url)
        mode.run(client.files.create(
            file=file, purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600},
            prompt_format={"separator": "\n\n###\n\n"}, on_progress=lambda *seen: progress.append(seen),
        ))  # fmt: skip
    request = stub.requests[0]
    body = request.body
    name = {"str": "tr%22äin.jsonl", "path": "tr%22äin.jsonl", "handle": "tr%22äin.jsonl",
            "tuple": "named.jsonl"}.get(kind, "upload")  # fmt: skip
    assert f'name="file"; filename="{name}"'.encode() in body
    assert b"\r\n\r\nhello\r\n--" in body
    assert b'name="purpose"\r\n\r\nfine-tune\r\n' in body
    assert b'name="expires_after[seconds]"\r\n\r\n3600\r\n' in body
    assert json.loads(body.split(b'name="prompt_format"\r\n\r\n')[1].split(b"\r\n")[0]) == {
        "separator": "\n\n###\n\n"
    }
    assert ("transfer-encoding" in request.headers) == (kind == "generator-like")
    assert progress[-1][0] == 5


def test_an_upload_is_rewound_for_its_retry(mode, stub, file_object, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"0123456789" * 1000)
    stub.then(answer({}, 500), answer(file_object), answer({}, 500), answer(file_object))
    client = mode.client(stub.url)
    with path.open("rb") as handle:
        handle.seek(5)
        mode.run(client.files.create(file=handle, purpose="fine-tune"))
    mode.run(client.files.create(file=path, purpose="fine-tune"))
    first, second, third, fourth = (request.body for request in stub.requests)
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2]
    assert third == fourth
    assert len(third) - len(first) == 5


def test_a_missing_file_is_refused(mode, stub, tmp_path):
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError, match="no file"):
        mode.run(client.files.create(file=tmp_path / "absent", purpose="fine-tune"))
    assert stub.requests == []


def test_an_empty_id_is_refused_before_any_request(mode, stub):
    client = mode.client(stub.url)
    with pytest.raises(ValueError, match="non-empty value for `file_id`"):
        mode.run(client.files.retrieve(""))
    assert stub.requests == []


def test_content(mode, stub, tmp_path):
    text = "step,loss\r\n1,0.5\r\nä,1\n"
    stub.handle = lambda _: raw_text(text)
    client = mode.client(stub.url)
    content = mode.run(client.files.content("file-1"))
    assert (content.text, content.content, content.read()) == (text, text.encode(), text.encode())
    assert list(content.iter_lines()) == ["step,loss", "1,0.5", "ä,1"]
    assert b"".join(content.iter_bytes(3)) == text.encode()
    content.write_to_file(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == text.encode()
    with pytest.warns(DeprecationWarning, match="Use content"):
        assert mode.run(client.files.retrieve_content("file-1")) == text


def raw_text(text: str) -> Any:
    body = text.encode()
    return raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )


def test_a_path_is_uploaded_once(mode, stub, file_object, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"hello")
    files = {
        "object": "list",
        "data": [{**file_object, "id": "file-0", "bytes": 4}],
        "has_more": False,
    }

    def handle(request):
        if request.method == "GET":
            return answer(files)
        return answer(file_object if "/files" in request.path else LEGACY)

    stub.handle = handle
    client = mode.client(stub.url)
    mode.run(client.fine_tunes.create(training_file=path))
    files["data"].append(file_object)
    mode.run(client.fine_tunes.create(training_file=str(path)))
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    files["data"][:] = [
        {**file_object, "id": "other", "sha256": "0"},
        {**file_object, "sha256": digest},
    ]
    mode.run(client.fine_tunes.create(training_file=path, validation_file="file-9"))
    posts = [request for request in stub.requests if request.method == "POST"]
    assert [request.path for request in posts] == ["/v1/files", *["/v1/fine-tunes"] * 3]
    assert all(request.json["training_file"] == "file-1" for request in posts[1:])
    assert posts[-1].json["validation_file"] == "file-9"


class FileServer:
    """Keeps what is uploaded, and reports its hash and prompt format as the engine does."""

    def __init__(self, file_object: dict[str, Any], job: dict[str, Any]) -> None:
        self.template, self.job = file_object, job
        self.files: list[dict[str, Any]] = []

    def __call__(self, request: Any) -> Any:
        if "/files" not in request.path:
            return answer(LEGACY if "fine-tunes" in request.path else self.job)
        if request.method == "GET":
            return answer({"object": "list", "data": self.files, "has_more": False})
        _, marked, after = request.body.partition(b'name="prompt_format"\r\n\r\n')
        content = request.body.rsplit(b"\r\n\r\n", 1)[1].partition(b"\r\n--")[0]
        file = {
            **self.template,
            "id": f"file-{len(self.files) + 1}",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        if marked:
            file["prompt_format"] = json.loads(after.split(b"\r\n")[0])
        self.files.append(file)
        return answer(file)


def test_the_prompt_format_beside_a_file_travels_with_it(mode, stub, file_object, job, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"hello")
    stub.handle = server = FileServer(file_object, job)
    client = mode.client(stub.url)
    mode.run(client.fine_tunes.create(training_file=path))
    saved = PromptFormat(separator=" ->", stop="\n")
    saved.save(tmp_path / "train.format.json")
    assert mode.run(client.files.find_matching(path)) is None
    mode.run(client.fine_tunes.create(training_file=path, validation_file=path))
    mode.run(client.fine_tuning.jobs.create(model="m", training_file=str(path)))
    mode.run(client.files.create(file=path, purpose="fine-tune"))
    mode.run(client.files.create(file=path, purpose="fine-tune", prompt_format=None))
    mode.run(client.files.create(file=path, purpose="batch"))
    formats = [file.get("prompt_format") for file in server.files]
    assert formats == [None, saved.to_dict(), saved.to_dict(), None, None]
    jobs = [request.json for request in stub.requests if request.path.startswith("/v1/fine")]
    assert [one["training_file"] for one in jobs] == ["file-1", "file-2", "file-2"]
    assert jobs[1]["validation_file"] == "file-2"
    assert "validation_file" not in jobs[2]
    assert mode.run(client.files.find_matching(path)).id == "file-2"


def test_a_damaged_prompt_format_beside_a_file_is_named(mode, stub, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"hello")
    (tmp_path / "train.format.json").write_text("{")
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError, match=r"train\.format\.json"):
        mode.run(client.files.create(file=path, purpose="fine-tune"))
    assert stub.requests == []


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda c: c.fine_tunes.create(training_file="f", epochs=3, temprature=1), "did you mean 'n_epochs'"),
        (lambda c: c.fine_tuning.jobs.create(model="m", training_file="f", sufix="a"), "'suffix'"),
        (lambda c: c.files.list(limt=3), "'limit'"),
        (lambda c: c.files.create(file=b"", purpose="fine-tune", on_progres=print), "'on_progress'"),
        (lambda c: c.completions.create(model="m", prompt="p", max_token=3), "'max_tokens'"),
        (lambda c: c.chat.completions.create(model="m", messages=[], temprature=1), "'temperature'"),
        (lambda c: c.fine_tunes.events("ft-1", pol=3), "'poll'"),
        (lambda c: c.models.retrieve("m", timeot=3), "'timeout'"),
        (lambda c: c.get("/models", quer={}), "'extra_query'"),
        (lambda c: c.with_raw_response.models.retrieve("m", timeot=3), "'timeout'"),
    ],
)  # fmt: skip
def test_an_unknown_keyword_is_refused_before_anything_is_sent(mode, stub, call, names):
    client = mode.client(stub.url)
    with pytest.raises(TypeError, match="unexpected keyword") as caught:
        mode.run(call(client))
    assert names in str(caught.value)
    assert stub.requests == []


def test_a_request_of_map_with_an_unknown_keyword_is_refused(mode, stub):
    requests = [{"prompt": "a", "temprature": 1}]
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        mode.items(mode.client(stub.url).completions.map(requests, model="m"))
    assert stub.requests == []


def test_a_path_that_does_not_exist_is_named(mode, stub):
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError, match="absent.jsonl"):
        mode.run(client.fine_tunes.create(training_file="data/absent.jsonl"))


@pytest.mark.parametrize("status", ["processed", "error", "uploaded"])
def test_wait_for_processing(mode, stub, file_object, status):
    states = iter(["uploaded", status])
    stub.handle = lambda _: answer({**file_object, "status": next(states, status)})
    client = mode.client(stub.url)
    waiting = {"poll_interval": 0.01, "max_wait_seconds": 0.1 if status == "uploaded" else 60}
    if status == "processed":
        assert mode.run(client.files.wait_for_processing("file-1", **waiting)).status == status
    else:
        with pytest.raises(tunesmith.FileProcessingError) as caught:
            mode.run(client.files.wait_for_processing("file-1", **waiting))
        assert caught.value.file.status == status


def test_a_file_in_parts(mode, stub, tmp_path, file_object):
    path = tmp_path / "big.jsonl"
    path.write_bytes(bytes(range(100)))
    parts = {}

    def handle(request):
        if request.path.endswith("/parts"):
            data = request.body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--tunesmith")[0]
            parts[f"part-{data[0]}"] = data
            return answer({"id": f"part-{data[0]}", "created_at": 1, "upload_id": "upload_1"})
        if request.path.endswith("/complete"):
            return answer({**UPLOAD, "status": "completed", "file": file_object})
        return answer(UPLOAD)

    stub.handle = handle
    progress = []
    client = mode.client(stub.url)
    done = mode.run(client.uploads.upload_file_chunked(
        file=path, mime_type="text/plain", purpose="fine-tune", part_size=30, concurrency=3,
        on_progress=lambda *seen: progress.append(seen),
    ))  # fmt: skip
    assert done.file.id == "file-1"
    order = stub.requests[-1].json["part_ids"]
    assert b"".join(parts[one] for one in order) == path.read_bytes()
    assert progress[-1] == (100, 100)
    mode.run(client.uploads.upload_file_chunked(
        file=path, mime_type="text/plain", purpose="fine-tune", part_size=30,
        upload_id="upload_1", part_ids=order[:2],
    ))  # fmt: skip
    assert stub.requests[-1].json["part_ids"] == order


def test_an_upload_that_fails_is_cancelled(mode, stub):
    def handle(request):
        return (
            answer({"error": {"message": "No."}}, 400)
            if "parts" in request.path
            else answer(UPLOAD)
        )

    stub.handle = handle
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.BadRequestError):
        mode.run(client.uploads.upload_file_chunked(
            file=b"x" * 100, mime_type="text/plain", purpose="fine-tune", part_size=10
        ))  # fmt: skip
    # Parts that were under way may be recorded after it.
    assert any(request.path.endswith("/upload_1/cancel") for request in stub.requests)


def test_raw_responses(mode, stub, job):
    stub.then(answer({}, 500), answer(job, x_request_id="req_3"))
    client = mode.client(stub.url)
    response = mode.run(client.fine_tuning.jobs.with_raw_response.retrieve("ftjob-1"))
    assert (response.status_code, response.request_id, response.retries_taken) == (200, "req_3", 1)
    assert response.parse().id == "ftjob-1"
    assert response.json() == job
    assert response.headers["Content-Type"] == "application/json"
    page = {"object": "list", "data": [job], "has_more": False}
    stub.then(answer(page), answer(page))
    listed = mode.run(client.with_raw_response.fine_tuning.jobs.list()).parse()
    assert [one.id for one in mode.items(listed)] == ["ftjob-1"]


def test_a_raw_response_is_there_even_when_its_body_does_not_fit(mode, stub):
    stub.then(answer({"object": "x"}))
    client = mode.client(stub.url)
    response = mode.run(client.models.with_raw_response.retrieve("m"))
    assert response.json() == {"object": "x"}
    with pytest.raises(tunesmith.APIResponseValidationError):
        response.parse()


def test_streaming_responses(mode, stub, job, tmp_path):
    body = b"0123456789" * 10_000
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    client = mode.client(stub.url, max_connections=1)
    path = tmp_path / "content.bin"

    async def of_async() -> Any:
        async with client.files.with_streaming_response.content("file-1") as response:
            await response.stream_to_file(path)
        async with client.fine_tuning.jobs.with_streaming_response.retrieve("ftjob-1") as response:
            assert response.status_code == 200
            return await response.parse()

    stub.then(raw(head % len(body) + body), answer(job))
    if mode.runner is not None:
        found = mode.runner.run(of_async())
    else:
        with client.files.with_streaming_response.content("file-1") as response:
            response.stream_to_file(path)
        with client.fine_tuning.jobs.with_streaming_response.retrieve("ftjob-1") as response:
            found = response.parse()
    assert path.read_bytes() == body
    assert found.id == "ftjob-1"
    assert Path(path).stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
