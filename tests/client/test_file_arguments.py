"""What can be passed as a file: sent as it is meant, or refused before anything is requested."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import sys
import tempfile
import threading
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from http_stub import Received, Stub, answer

ROWS = '{"prompt": "ä ->", "completion": " 1"}\n'


def form(request: Received) -> dict[str, tuple[str | None, str, bytes]]:
    """Return the parts of a form: file name, media type and content by field name."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    parts: Any = message_from_bytes(head + request.body).get_payload()
    return {
        part.get_param("name", header="content-disposition"): (
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in parts
    }


@pytest.fixture
def sent(mode: Any, stub: Stub, file_object: dict[str, Any]) -> Any:
    """Uploads a file argument and returns its part: file name, media type and content."""
    stub.handle = lambda _: answer(file_object)
    client = mode.client(stub.url)

    def upload(file: Any, **fields: Any) -> Any:
        mode.run(client.files.create(file=file, purpose="fine-tune", **fields))
        return form(stub.requests[-1])["file"]

    return upload


@pytest.fixture
def refused(mode: Any, stub: Stub) -> Any:
    """Checks that a file argument is refused with a message, and that nothing is requested."""
    client = mode.client(stub.url)

    def check(file: Any, match: str, **options: Any) -> None:
        with pytest.raises(tunesmith.TunesmithError, match=match):
            mode.run(client.files.create(file=file, purpose="fine-tune", **options))
        assert stub.requests == []

    return check


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text(ROWS, "utf-8")
    return path


def test_text_with_a_name_is_content(sent):
    assert sent(("train.jsonl", ROWS)) == (
        "train.jsonl",
        "application/octet-stream",
        ROWS.encode(),
    )
    assert sent(("a.jsonl", "no path"))[2] == b"no path"


def test_text_with_a_name_that_is_also_a_path_is_refused(refused, path, monkeypatch):
    refused(("a.jsonl", str(path)), r"is also a file here.*Path\(…\).*encode\(\)")
    monkeypatch.chdir(path.parent)
    refused(("a.jsonl", "train.jsonl"), "is also a file here")


@pytest.mark.parametrize(
    "text",
    [ROWS, ROWS * 1000, '{"prompt": 1}', '[{"a": 1}]', "a\nb", "https://h/train.jsonl", "", "a\0b"],
    ids=["row", "rows", "object", "array", "lines", "url", "empty", "null"],
)
def test_text_alone_that_is_no_path_is_refused(refused, text):
    refused(text, r"is no path\. Pass content with its name")


def test_a_message_about_content_shows_only_its_start(mode, stub):
    secret = "x" * 10_000 + "sentinel"
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError) as caught:
        mode.run(client.files.create(file=secret, purpose="fine-tune"))
    assert "sentinel" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_path_and_a_path_in_a_tuple(sent, path, monkeypatch):
    for file in (path, str(path), BytesPath(path)):
        assert sent(file)[0::2] == ("train.jsonl", ROWS.encode())
    assert sent(("a.txt", path, "text/plain")) == ("a.txt", "text/plain", ROWS.encode())
    monkeypatch.setenv("HOME", str(path.parent))
    assert sent("~/train.jsonl")[2] == ROWS.encode()


class BytesPath(os.PathLike):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self.path)


def test_what_is_no_readable_file_is_refused(refused, tmp_path):
    refused(tmp_path, "is a folder")
    refused(tmp_path / "absent", "There is no file")
    refused("x" * 300, "cannot be opened: file name too long")
    refused(3, "not int")
    refused(None, "not NoneType")
    refused(iter([b"a"]), "not list_iterator")
    closed = (tmp_path / "closed").open("wb")
    closed.close()
    refused(closed, "is closed")


def test_a_handle_for_writing_is_refused(refused, tmp_path):
    with (tmp_path / "a").open("wb") as handle:
        refused(handle, "open for writing only")


def test_a_handle_at_its_end_is_refused(refused, path, tmp_path):
    with path.open("rb") as handle:
        handle.read()
        refused(handle, r"at its end, so nothing would be sent. Call its seek\(0\)")
    with path.open() as text:
        text.read()
        refused(text, "at its end")
    written = io.BytesIO()
    written.write(b"abc")
    refused(written, "at its end")
    refused(("a.jsonl", written), "at its end")
    noted = io.StringIO()
    noted.write("abc")
    refused(noted, "at its end")
    with tempfile.NamedTemporaryFile("w+b") as temporary:
        temporary.write(b"abc")
        refused(temporary, "at its end")


def test_an_empty_file_is_sent(sent, tmp_path):
    (tmp_path / "empty").touch()
    assert sent(tmp_path / "empty")[2] == b""
    assert sent(io.BytesIO())[2] == b""
    assert sent(io.StringIO())[2] == b""


def test_a_handle_is_read_from_its_position(sent, path):
    with path.open("rb") as handle:
        handle.seek(3)
        assert sent(handle)[2] == ROWS.encode()[3:]
    with path.open(encoding="utf-8") as text:
        text.read(3)
        assert sent(text)[2] == ROWS[3:].encode()


def test_text_handles(sent, path, tmp_path):
    with path.open(encoding="utf-8") as handle:
        assert sent(handle)[0::2] == ("train.jsonl", ROWS.encode())
    assert sent(io.StringIO(ROWS))[2] == ROWS.encode()
    other = tmp_path / "utf16.jsonl"
    other.write_text(ROWS, "utf-16")
    with other.open(encoding="utf-16") as handle:
        assert sent(handle)[2] == ROWS.encode()
    marked = tmp_path / "marked.jsonl"
    marked.write_text(ROWS, "utf-8-sig")
    with marked.open(encoding="utf-8-sig") as handle:
        assert sent(handle)[2] == ROWS.encode()
    with codecs.StreamReaderWriter(
        path.open("rb"), codecs.getreader("utf-8"), codecs.getwriter("utf-8")
    ) as handle:
        assert sent(handle)[2] == ROWS.encode()
    with gzip.open(tmp_path / "rows.gz", "wt", encoding="utf-8") as handle:
        handle.write(ROWS)
    with gzip.open(tmp_path / "rows.gz", "rt", encoding="utf-8") as handle:
        assert sent(("rows.jsonl", handle))[2] == ROWS.encode()


def test_a_text_handle_that_was_written_to_is_sent_with_all_of_it(sent, tmp_path):
    with (tmp_path / "new.jsonl").open("w+", encoding="utf-8") as handle:
        handle.write(ROWS)
        handle.seek(0)
        assert sent(handle)[2] == ROWS.encode()


def test_text_that_its_encoding_cannot_read_is_refused(refused, tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b"\xe4\xff")
    with (tmp_path / "latin.jsonl").open(encoding="utf-16") as handle:
        refused(handle, 'cannot be read as text.*mode "rb"')
    refused(("a", "\ud800"), "half of a surrogate pair")


@pytest.mark.parametrize("limit", [10, 1 << 20], ids=["on-disk", "in-memory"])
@pytest.mark.parametrize("kind", ["w+b", "w+"])
def test_spooled_temporary_files(sent, refused, limit, kind):
    with tempfile.SpooledTemporaryFile(
        limit, kind, encoding=None if "b" in kind else "utf-8"
    ) as file:
        file.write(ROWS if kind == "w+" else ROWS.encode())
        refused(file, "at its end")
        file.seek(0)
        assert sent(file) == ("upload", "application/octet-stream", ROWS.encode())
        file.seek(0)
        assert sent(("a.jsonl", file))[0::2] == ("a.jsonl", ROWS.encode())


@pytest.mark.parametrize("kind", ["w+b", "w+"])
def test_named_temporary_files(sent, kind):
    with tempfile.NamedTemporaryFile(kind, suffix=".jsonl") as file:
        file.write(ROWS if kind == "w+" else ROWS.encode())
        file.seek(0)
        assert sent(file)[0::2] == (Path(file.name).name, ROWS.encode())


def test_uploaded_files_of_fastapi(sent):
    datastructures = pytest.importorskip("starlette.datastructures")
    headers = datastructures.Headers({"content-type": "application/jsonl"})
    file = datastructures.UploadFile(
        io.BytesIO(ROWS.encode()), filename="dir/mine.jsonl", headers=headers
    )
    assert sent(file) == ("mine.jsonl", "application/jsonl", ROWS.encode())
    with pytest.raises(tunesmith.TunesmithError, match="at its end"):
        sent(file)
    file.file.seek(0)
    assert sent(("b.jsonl", file, "text/plain")) == ("b.jsonl", "text/plain", ROWS.encode())


class FileStorage:
    """As Werkzeug's: the name is the field's, and everything else is that of its stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.name = "field"
        self.filename = "mine.jsonl"
        self.content_type = "text/plain"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def test_uploaded_files_of_werkzeug(sent):
    file = FileStorage(io.BytesIO(b"abc"))
    assert sent(file) == ("mine.jsonl", "text/plain", b"abc")


def test_handles_that_are_read_asynchronously_are_refused(refused):
    class Handle:
        async def read(self, size: int = -1) -> bytes:
            return b""[:size]

    refused(Handle(), "is read asynchronously. Pass the file's path")


def test_a_handle_that_returns_no_bytes_is_refused(mode, stub, file_object):
    class Handle:
        def __init__(self, *chunks: Any) -> None:
            self.chunks = list(chunks)

        def read(self, size: int = -1) -> Any:
            assert size > 0
            return self.chunks.pop(0)

    stub.handle = lambda _: answer(file_object)
    client = mode.client(stub.url, max_retries=0)
    for chunks, kind in ((("text",), "str"), ((b"a", None), "NoneType")):
        with pytest.raises(tunesmith.TunesmithError, match=f"returned {kind}, not bytes"):
            mode.run(client.files.create(file=Handle(*chunks), purpose="fine-tune"))
    mode.run(client.files.create(file=Handle(b"a", b"b", b""), purpose="fine-tune"))
    assert form(stub.requests[-1])["file"][2] == b"ab"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_sent_without_a_length(mode, stub, file_object, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(b"abc"), daemon=True).start()
    stub.handle = lambda _: answer(file_object)
    client = mode.client(stub.url)
    mode.run(client.files.create(file=pipe, purpose="fine-tune"))
    assert form(stub.requests[-1])["file"][2] == b"abc"
    assert "content-length" not in stub.requests[-1].headers


def test_bytes_like_content(sent):
    for content in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert sent(content) == ("upload", "application/octet-stream", b"abc")


def test_header_fields_of_a_tuple_are_sent(sent, stub):
    part = ("a.jsonl", b"x", None, {"X-Source": "mine", "content-type": "text/csv"})
    assert sent(part) == ("a.jsonl", "text/csv", b"x")
    assert b"\r\nX-Source: mine\r\n" in stub.requests[-1].body


@pytest.mark.parametrize(
    ("file", "match"),
    [
        (("a",), "not a tuple of 1"),
        (("a", b"", None, {}, 5), "not a tuple of 5"),
        ((Path("a"), b""), "name of a file in a tuple is text"),
        ((b"a", b""), "name of a file in a tuple is text"),
        (("a", b"", 3), "media type of a file in a tuple is text"),
        (("a", b"", None, ["x"]), "are a mapping"),
        (("a", b"", None, {"x": 3}), "is not text"),
        (("a", b"", None, {"x": "1\r\nevil: 2"}), "contains a line break"),
        (("a", 3), "not int"),
    ],
    ids=repr,
)
def test_tuples_that_are_no_file_are_refused(refused, file, match):
    refused(file, match)


def test_extra_body_adds_fields_to_the_form(sent, stub, mode):
    sent(b"x", extra_body={"project": "p", "tags": ["a", "b"], "keep": True})
    parts = form(stub.requests[-1])
    assert parts["project"][2] == b"p"
    assert parts["tags[]"][2] == b"b"
    assert stub.requests[-1].body.count(b'name="tags[]"') == 2
    assert parts["keep"][2] == b"true"


def test_a_file_that_grows_during_its_upload(mode, stub, file_object, tmp_path):
    path = tmp_path / "growing.jsonl"
    path.write_bytes(b"x" * 1000)
    stub.handle = lambda _: answer(file_object)

    class Handle(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            with path.open("ab") as out:
                out.write(b"y" * 10)
            return super().read(size)

    client = mode.client(stub.url, max_retries=0)
    with Handle(io.FileIO(path)) as handle, pytest.raises(tunesmith.TunesmithError, match="changed"):  # fmt: skip
        mode.run(client.files.create(file=handle, purpose="fine-tune"))


def test_find_matching_leaves_a_handle_where_it_was(mode, stub, file_object, path):
    known = {**file_object, "bytes": len(ROWS.encode()), "sha256": "0" * 64}
    stub.then(answer({"object": "list", "data": [known], "has_more": False}), answer(file_object))
    client = mode.client(stub.url)
    with path.open("rb") as handle:
        assert mode.run(client.files.find_matching(handle)) is None
        mode.run(client.files.create(file=handle, purpose="fine-tune"))
    assert form(stub.requests[-1])["file"][2] == ROWS.encode()


def test_find_matching_does_not_use_up_a_pipe(mode, stub):
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb") as out:
        out.write(b"abc")
        out.close()
        client = mode.client(stub.url)
        with pytest.raises(tunesmith.TunesmithError, match="used up"):
            mode.run(client.files.find_matching(pipe))
        assert pipe.read() == b"abc"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"part_size": 0}, "part_size is a whole number of 1 or more, not 0"),
        ({"part_size": -1}, "part_size"),
        ({"part_size": 2.5}, "part_size"),
        ({"concurrency": 0}, "concurrency is a whole number of 1 or more, not 0"),
        ({"concurrency": True}, "concurrency"),
        ({"part_ids": "part_1", "upload_id": "u"}, "part_ids is a list of ids, not the text"),
        ({"part_ids": ["part_1"]}, "Pass its upload_id"),
        ({"part_ids": ["a", "b"], "upload_id": "u"}, "has 1 parts.*part_ids has 2"),
        ({"bytes": 4}, "has 3 bytes, not 4"),
    ],
    ids=repr,
)
def test_parts_that_would_not_be_the_file_are_refused(mode, stub, options, match):
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError, match=match):
        mode.run(
            client.uploads.upload_file_chunked(
                file=b"abc", mime_type="text/plain", purpose="fine-tune", **options
            )
        )
    assert stub.requests == []


def test_one_text_is_no_list_of_ids(mode, stub):
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError, match="part_ids is a list"):
        mode.run(client.uploads.complete("upload_1", part_ids="part_1"))
    with pytest.raises(tunesmith.TunesmithError, match="project_ids is a list"):
        mode.run(client.fine_tuning.checkpoints.permissions.create("c", project_ids="proj_1"))
    assert stub.requests == []


def test_an_id_is_an_id_even_beside_a_file_of_its_name(mode, stub, job, tmp_path, monkeypatch):
    (tmp_path / "file-abc").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    stub.then(answer(job))
    client = mode.client(stub.url)
    mode.run(client.fine_tuning.jobs.create(model="m", training_file="file-abc"))
    assert stub.requests[0].json["training_file"] == "file-abc"


@pytest.mark.parametrize("text", [ROWS, ROWS * 1000, ""], ids=["row", "rows", "empty"])
def test_content_is_no_training_file(mode, stub, text):
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TunesmithError, match="training_file"):
        mode.run(client.fine_tuning.jobs.create(model="m", training_file=text))
    assert stub.requests == []


def test_standard_input_is_sent(sent, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ROWS.encode()), "utf-8"))
    assert sent(sys.stdin)[0::2] == ("upload", ROWS.encode())
    sys.stdin.buffer.seek(0)
    assert sent(sys.stdin.buffer)[2] == ROWS.encode()
