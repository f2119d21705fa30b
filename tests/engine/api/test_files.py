"""Files on the wire, as real clients send them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tunesmith.engine import Engine
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.schema import files

Upload = Callable[..., dict[str, Any]]


def test_a_file_is_uploaded_listed_retrieved_read_and_deleted(http: httpx.Client, upload: Upload):
    file = upload("{}\n", "数据.jsonl")

    assert file["object"] == "file"
    assert file["bytes"] == 3
    assert file["filename"] == "数据.jsonl"
    assert file["purpose"] == "fine-tune"
    assert http.get(f"files/{file['id']}").json() == file
    assert file in http.get("files").json()["data"]
    content = http.get(f"files/{file['id']}/content")
    assert content.content == b"{}\n"
    deleted = http.delete(f"files/{file['id']}").json()
    assert deleted.pop("freed_bytes") in {0, 3}, "another file may have the same content"
    assert deleted == {"id": file["id"], "object": "file", "deleted": True}
    gone = http.get(f"files/{file['id']}/content")
    assert gone.status_code == 404
    assert set(gone.json()["error"]) == {"message", "type", "param", "code"}


def test_a_chunked_body_without_a_length_is_accepted(http: httpx.Client):
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b\r\n'
        yield b'Content-Disposition: form-data; name="file"; filename="/home/me/a.jsonl"\r\n\r\n'
        for _ in range(100):
            yield b'{"a": 1}\n' * 1000
        yield b"\r\n--b--\r\n"

    answer = http.post(
        "files", content=body(), headers={"content-type": "multipart/form-data; boundary=b"}
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == 900_000
    assert answer.json()["filename"] == "a.jsonl"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nx\r\n--b--\r\n', "file"),
        (b"not multipart at all", None),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc', None),
        (
            (
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
                b"x\r\n--b--\r\n"
            ),
            "purpose",
        ),
    ],
)
def test_a_broken_upload_is_refused_in_the_envelope(
    http: httpx.Client, engine: Engine, body: bytes, param: str | None
):
    answer = http.post(
        "files", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not list((engine.home.files / "incoming").iterdir())


def test_equal_contents_are_stored_once_and_kept_until_the_last_file_is_deleted(
    http: httpx.Client, upload: Upload, engine: Engine
):
    text = '{"once": 1}\n'
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    place = engine.home.files / sha256[:2] / sha256
    first, second = upload(text), upload(text)

    http.delete(f"files/{first['id']}")
    assert place.exists()
    assert http.get(f"files/{second['id']}/content").text == text
    http.delete(f"files/{second['id']}")
    assert not place.exists()


def test_a_content_that_changed_on_disk_is_not_served(
    http: httpx.Client, upload: Upload, engine: Engine
):
    text = '{"true": 1}\n'
    file = upload(text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    (engine.home.files / sha256[:2] / sha256).write_text("{}", encoding="utf-8")

    answer = http.get(f"files/{file['id']}/content")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "file_corrupt"


def test_uploading_it_again_heals_a_content_that_changed_on_disk(
    engine: Engine, http: httpx.Client, upload: Upload
):
    first = upload("good\n", "a.jsonl")
    path = engine.home.files / first["sha256"][:2] / first["sha256"]
    for damage in (b"bad!\n", b"", None):
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        assert http.get(f"files/{first['id']}/content").status_code == 500
        again = upload("good\n", "a.jsonl")
        for file in (first, again):
            assert http.get(f"files/{file['id']}/content").content == b"good\n"


def test_lists_are_paginated_in_both_orders(http: httpx.Client, upload: Upload):
    mine = [upload("{}", f"page{number}.jsonl")["id"] for number in range(5)]

    newest = http.get("files", params={"limit": 2}).json()
    assert [file["id"] for file in newest["data"]] == mine[:2:-1]
    assert newest["has_more"] is True
    assert newest["last_id"] == mine[3]
    more = http.get("files", params={"limit": 2, "after": mine[3]}).json()
    assert [file["id"] for file in more["data"]] == [mine[2], mine[1]]
    older = http.get("files", params={"order": "asc", "after": mine[2]}).json()
    assert [file["id"] for file in older["data"]] == mine[3:]
    assert http.get("files", params={"limit": 0}).json()["data"] == []
    assert http.get("files", params={"purpose": "vision"}).json()["first_id"] == ""
    assert http.get("files", params={"after": "file-none"}).status_code == 400
    assert http.get("files", params={"limit": -1}).json()["error"]["param"] == "limit"


def test_an_encoded_path_is_one_segment_and_does_not_escape(http: httpx.Client):
    for path in ("files/%2Fabs%2Fpath%2Ftrain.jsonl", "files/..%2F..%2Fengine.db/content"):
        answer = http.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "file_not_found"


def test_expiry_is_validated_and_stored(http: httpx.Client, upload: Upload):
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = upload("{}", **fields)
    assert file["expires_at"] - file["created_at"] == 3600

    fields["expires_after[seconds]"] = "5"
    answer = http.post(
        "files", data=fields | {"purpose": "fine-tune"}, files={"file": ("a.jsonl", b"{}")}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "expires_after"


def test_an_upload_repeated_under_one_key_creates_one_file(http: httpx.Client):
    def send(text: str) -> httpx.Response:
        return http.post(
            "files",
            data={"purpose": "fine-tune"},
            files={"file": ("a.jsonl", text.encode())},
            headers={"idempotency-key": "upload-1"},
        )

    first, second, other = send("{}"), send("{}"), send("{} ")

    assert first.json()["id"] == second.json()["id"]
    assert other.status_code == 400
    assert other.json()["error"]["code"] == "idempotency_key_reused"


def test_a_prompt_format_travels_with_the_file(http: httpx.Client, upload: Upload):
    said = {"separator": " ->", "stop": ["\n"]}
    file = upload("{}", prompt_format=json.dumps(said))

    assert http.get(f"files/{file['id']}").json()["prompt_format"] == said


@pytest.mark.parametrize(
    "text",
    [
        '{"separator": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": NaN}',
        '{"a": [1e999]}',
        '{"a": ' * 40 + "1" + "}" * 40,
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
        '{"a": ' + "[" * 20_000 + "]" * 20_000 + "}",
        "[1]",
        "{",
    ],
    ids=lambda text: text[:24],
)
def test_a_prompt_format_that_cannot_be_listed_is_not_stored(http: httpx.Client, text: str):
    before = http.get("files").json()
    answer = http.post(
        "files",
        data={"purpose": "fine-tune", "prompt_format": text},
        files={"file": ("a.jsonl", b"{}")},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt_format"
    assert http.get("files").json() == before


def test_one_record_of_an_older_version_does_not_hide_the_others(
    engine: Engine, http: httpx.Client, upload: Upload
):
    broken, sound = upload("{}\n", "broken.jsonl"), upload("{}\n", "sound.jsonl")
    database = Database(f"sqlite:///{engine.home.database}")
    with database.write() as connection:
        change = update(files).where(files.c.id == broken["id"])
        connection.execute(change.values(prompt_format={"separator": "\ud800"}))
    database.close()
    listed = {file["id"]: file for file in http.get("files").json()["data"]}
    assert "prompt_format" not in listed[broken["id"]]
    assert listed[sound["id"]] == sound


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1}',
        b'{"training_file": "\\ud800"}',
        b'{"training_file": "f", "model": "\\udfff"}',
        b'{"training_file": "f", "suffix": "\\udfff"}',
        b'{"training_file": "f", "metadata": {"\\ud800": "a"}}',
        b'{"training_file": "f", "metadata": {"a": "\\ud800"}}',
        b'{"training_file": "f", "seed": 1e999}',
        b'{"training_file": "f", "seed": 99999999999999999999999}',
        b'{"training_file": "f", "hyperparameters": {"learning_rate_multiplier": NaN}}',
    ],
)
def test_text_that_utf8_cannot_express_is_refused(http: httpx.Client, body: bytes):
    for path in ("fine_tuning/jobs", "fine-tunes", "completions", "chat/completions"):
        answer = http.post(path, content=body)
        assert answer.status_code in {400, 404}, (path, answer.text)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("sent", "status", "content"),
    [
        ("bytes=1-3", 206, "bcd"),
        ("bytes=-2", 206, "ef"),
        ("bytes=4-", 206, "ef"),
        ("bytes=4-99", 206, "ef"),
        ("bytes=x", 200, "abcdef"),
        ("bytes=9-1", 200, "abcdef"),
        ("lines=1-2", 200, "abcdef"),
        (f"bytes={'9' * 5000}-", 200, "abcdef"),
        ("bytes=6-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges_are_served_ignored_or_refused_in_the_envelope(http, upload, sent, status, content):
    answer = http.get(f"files/{upload('abcdef')['id']}/content", headers={"range": sent})
    assert answer.status_code == status
    if content is None:
        assert answer.json()["error"]["code"] == "range_not_satisfiable"
        assert answer.headers["content-range"] == "bytes */6"
    else:
        assert answer.text == content


def test_a_file_that_is_deleted_while_it_is_to_be_sent_is_not_found(tmp_path):
    """The answer has not begun when the file cannot be opened."""
    import asyncio

    from tunesmith.engine.api.file_download import _OpenedFile
    from tunesmith.engine.api.http_errors import ApiError

    path = tmp_path / "a"
    path.write_bytes(b"abc")
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.sleep(60)

    def content():
        scope = {"type": "http", "method": "GET", "headers": []}
        return _OpenedFile(path, stat_result=stat)(scope, receive, send)

    stat = path.stat()
    asyncio.run(content())
    assert b"".join(one.get("body", b"") for one in sent) == b"abc"
    sent.clear()
    path.unlink()
    with pytest.raises(ApiError) as caught:
        asyncio.run(content())
    assert (caught.value.status, sent) == (404, [])
