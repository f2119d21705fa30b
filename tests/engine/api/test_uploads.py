"""Files in parts over HTTP: with our client, and as any client sends them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

import tunesmith
from tunesmith.engine import Engine

from .conftest import ROWS

CONTENT = ROWS.encode() * 40
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def create(http: httpx.Client):
    def create_upload(**fields: Any) -> dict[str, Any]:
        body = {
            "filename": "train.jsonl",
            "purpose": "fine-tune",
            "bytes": len(CONTENT),
            "mime_type": "application/jsonl",
        }
        answer = http.post("uploads", json=body | fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return create_upload


@pytest.fixture
def send(http: httpx.Client):
    def send_part(upload: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
        files = {"data": ("part", data)}
        return http.post(f"uploads/{upload['id']}/parts", files=files, headers=headers)

    return send_part


def complete(http: httpx.Client, upload: dict[str, Any], parts: list[str], **fields: Any):
    return http.post(f"uploads/{upload['id']}/complete", json={"part_ids": parts} | fields)


def folder_of(engine: Engine, upload: dict[str, Any]):
    return engine.home.uploads / upload["id"]


def fault(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


@pytest.mark.parametrize("part_size", [1000, len(CONTENT)])
def test_our_client_uploads_a_file_in_parts(engine: Engine, part_size: int):
    with engine.client() as client:
        upload = client.uploads.upload_file_chunked(
            file=("数据.jsonl", CONTENT),
            mime_type="application/jsonl",
            purpose="fine-tune",
            part_size=part_size,
            md5=MD5,
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert upload.status == "completed"
        assert upload.file is not None
        file = client.files.retrieve(upload.file.id)
        assert (file.filename, file.bytes, file.purpose) == (
            "数据.jsonl",
            len(CONTENT),
            "fine-tune",
        )
        assert file.expires_at == file.created_at + 3600
        assert client.files.content(file.id).read() == CONTENT
        with pytest.raises(tunesmith.BadRequestError, match="is completed"):
            client.uploads.cancel(upload.id)


def test_our_async_client_uploads_a_file_in_parts(engine: Engine):
    async def send_file():
        async with tunesmith.AsyncClient(base_url=engine.base_url, api_key="any") as client:
            return await client.uploads.upload_file_chunked(
                file=CONTENT, mime_type="application/jsonl", purpose="fine-tune", part_size=3000
            )

    upload = asyncio.run(send_file())
    assert upload.file is not None
    assert upload.file.bytes == len(CONTENT)


def test_parts_are_joined_in_the_order_of_their_ids(http, create, send, engine):
    upload = create()
    assert (upload["object"], upload["status"], upload["file"]) == ("upload", "pending", None)
    assert upload["expires_at"] == upload["created_at"] + 3600
    half = len(CONTENT) // 2
    second, first = (send(upload, data).json() for data in (CONTENT[half:], CONTENT[:half]))
    assert (first["object"], first["upload_id"]) == ("upload.part", upload["id"])

    done = complete(http, upload, [first["id"], second["id"]], md5=MD5.upper()).json()

    assert done["status"] == "completed"
    assert http.get(f"files/{done['file']['id']}/content").content == CONTENT
    assert done["file"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert not folder_of(engine, upload).exists()
    again = complete(http, upload, [first["id"], second["id"]])
    assert fault(again) == (400, "id", "upload_not_pending")
    assert fault(send(upload, b"more")) == (400, "id", "upload_not_pending")


def test_size_md5_and_ids_are_checked_and_the_upload_stays_open(http, create, send):
    upload = create()
    part = send(upload, CONTENT[:-1]).json()["id"]
    rest = send(upload, CONTENT[-1:]).json()["id"]

    assert fault(complete(http, upload, [part])) == (400, "part_ids", "size_mismatch")
    wrong = complete(http, upload, [part, rest], md5="0" * 32)
    assert fault(wrong) == (400, "md5", "md5_mismatch")
    assert fault(complete(http, upload, [part, part]))[:2] == (400, "part_ids[1]")
    assert fault(complete(http, upload, ["part_none"]))[:2] == (400, "part_ids[0]")
    assert fault(complete(http, upload, [part, rest], md5="x"))[:2] == (400, "md5")
    assert fault(send(upload, CONTENT + b"x")) == (400, "data", "size_mismatch")
    assert complete(http, upload, [part, rest], md5=MD5).status_code == 200


def test_a_part_that_was_sent_twice_may_be_left_out(http, create, send):
    upload = create()
    first = send(upload, CONTENT, **{"idempotency-key": f"a{upload['id']}"}).json()["id"]
    same = send(upload, CONTENT, **{"idempotency-key": f"a{upload['id']}"}).json()["id"]
    other = send(upload, CONTENT).json()["id"]
    assert first == same != other
    assert fault(send(upload, CONTENT)) == (400, "data", "size_mismatch")  # no third time
    assert complete(http, upload, [other]).status_code == 200


def test_a_request_whose_answer_was_lost_is_answered_again(http, create, send):
    upload = create()
    part = send(upload, CONTENT).json()["id"]
    body, headers = {"part_ids": [part]}, {"idempotency-key": f"c{upload['id']}"}
    answers = [
        http.post(f"uploads/{upload['id']}/complete", json=body, headers=headers).json()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert answers[0]["file"]["bytes"] == len(CONTENT)


def test_a_cancelled_upload_keeps_nothing(http, create, send, engine):
    upload = create()
    part = send(upload, CONTENT).json()["id"]
    assert folder_of(engine, upload).exists()

    for _ in range(2):
        assert http.post(f"uploads/{upload['id']}/cancel").json()["status"] == "cancelled"

    assert not folder_of(engine, upload).exists()
    assert fault(complete(http, upload, [part])) == (400, "id", "upload_not_pending")


def test_a_part_that_was_damaged_on_the_disk_is_named(http, create, send, engine):
    upload = create()
    part = send(upload, CONTENT).json()["id"]
    (folder_of(engine, upload) / part).write_bytes(b"x" * len(CONTENT))
    assert fault(complete(http, upload, [part])) == (400, "part_ids", "part_damaged")
    (folder_of(engine, upload) / part).unlink()
    assert fault(complete(http, upload, [part])) == (400, "part_ids", "part_damaged")
    assert complete(http, upload, [send(upload, CONTENT).json()["id"]]).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"bytes": -1}, 400, "bytes"),
        ({"bytes": 1 << 50}, 413, "bytes"),
        ({"purpose": "fun"}, 400, "purpose"),
        ({"filename": ""}, 400, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "expires_after"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, 400, "expires_after"),
        ({"colour": 1}, 400, "colour"),
    ],
)
def test_a_wrong_announcement_is_refused(http, fields, status, param):
    body = {"filename": "a", "purpose": "fine-tune", "bytes": 1, "mime_type": "text/plain"}
    assert fault(http.post("uploads", json=body | fields))[:2] == (status, param)


def test_an_unknown_upload_is_not_found(http):
    assert http.post("uploads/upload_none/cancel").status_code == 404
    assert http.post("uploads/upload_none/complete", json={"part_ids": []}).status_code == 404
    files = {"data": ("part", b"x")}
    assert http.post("uploads/upload_none/parts", files=files).status_code == 404


def test_an_empty_file_needs_no_parts(http, create):
    upload = create(bytes=0)
    assert complete(http, upload, []).json()["file"]["bytes"] == 0


def test_a_part_larger_than_other_bodies_is_taken(http, create, send):
    size = 9 << 20  # more than `limits.body_bytes`
    upload = create(bytes=size)
    part = send(upload, b"\n" * size).json()["id"]
    assert complete(http, upload, [part]).json()["file"]["bytes"] == size


def test_an_upload_carries_the_prompt_format_saved_beside_its_file(engine: Engine, tmp_path):
    from tunesmith.datasets import PromptFormat

    path = tmp_path / "train.jsonl"
    path.write_bytes(CONTENT)
    beside = PromptFormat(separator=" ->", stop="\n")
    beside.save(tmp_path / "train.format.json")
    own = {"separator": "\n\n###\n\n"}
    with engine.client() as client:

        def sent(**fields: Any) -> Any:
            upload = client.uploads.upload_file_chunked(
                file=path, mime_type="application/jsonl", purpose="fine-tune", **fields
            )
            return getattr(client.files.retrieve(upload.file.id), "prompt_format", None)

        assert sent() == beside.to_dict()
        assert sent(prompt_format=own) == own
        assert sent(prompt_format=None) is None
        direct = client.files.create(file=path, purpose="fine-tune")
        assert direct.prompt_format == beside.to_dict()


@pytest.mark.parametrize(
    "prompt_format",
    ['"text"', "[1]", '{"a": "\\ud800"}', '{"a": NaN}', '{"a":' * 50 + "1" + "}" * 50],
)
def test_a_prompt_format_that_cannot_be_listed_is_refused(http, create, send, prompt_format):
    upload = create()
    part = send(upload, CONTENT).json()["id"]
    body = f'{{"part_ids": ["{part}"], "prompt_format": {prompt_format}}}'
    answer = http.post(
        f"uploads/{upload['id']}/complete",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400, answer.text
    assert "prompt_format" in answer.json()["error"]["param"]
    assert http.get("files").status_code == 200
    assert complete(http, upload, [part]).status_code == 200  # it is still open
