"""Pinned downloads against a real index on a real socket."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tunesmith.disk_space import NotEnoughSpaceError
from tunesmith.downloads.http import DownloadError
from tunesmith.downloads.package_index import PinnedFile, fetch_pinned, index_urls
from tunesmith.file_lock import exclusive_lock

CONTENT = bytes(range(256)) * 4096


@dataclass
class Index:
    """What the index serves, and the requests it received."""

    url: str = ""
    content: bytes = CONTENT
    html: bool = False
    drop_after: int | None = None
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)


def handler_for(state: Index) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(
                (self.path, self.headers.get("Range"), self.headers.get("Authorization"))
            )
            if self.path == "/simple/some-thing/":
                return self.index_page()
            if self.path == "/files/thing-1.0.tar.gz":
                return self.file()
            return self.send_error(404)

        def index_page(self):
            if state.html:
                kind = "text/html"
                body = b'<a href="../../files/thing-1.0.tar.gz#sha256=00">thing</a>'
            else:
                kind = "application/vnd.pypi.simple.v1+json"
                body = json.dumps({"files": [{"url": "../../files/thing-1.0.tar.gz"}]}).encode()
            self.answer(200, kind, body)

        def file(self):
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.drop_after is None:
                self.wfile.write(body)
            else:
                self.wfile.write(body[: state.drop_after])
                self.close_connection = True

        def answer(self, status, kind, body):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    return Handler


@pytest.fixture
def index(monkeypatch):
    state = Index()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(state))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/simple"
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", state.url)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def pinned(content: bytes = CONTENT) -> PinnedFile:
    return PinnedFile(
        "Some_Thing", "1.0", "thing-1.0.tar.gz", hashlib.sha256(content).hexdigest(), len(content)
    )


@pytest.mark.parametrize("html", [False, True])
def test_downloads_the_file_and_reports_progress(index, tmp_path, html):
    index.html = html
    seen = []
    path = fetch_pinned(pinned(), tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not list(tmp_path.glob("*.part"))


def test_an_existing_file_is_not_downloaded_again(index, tmp_path):
    (tmp_path / "thing-1.0.tar.gz").write_bytes(CONTENT)
    fetch_pinned(pinned(), tmp_path)
    assert index.requests == []


def test_an_interrupted_download_is_resumed(index, tmp_path):
    (tmp_path / "thing-1.0.tar.gz.part").write_bytes(CONTENT[:1000])
    assert fetch_pinned(pinned(), tmp_path).read_bytes() == CONTENT
    assert index.requests[-1][1] == "bytes=1000-"


def test_survives_connections_that_break(index, tmp_path):
    index.drop_after = len(CONTENT) // 3
    assert fetch_pinned(pinned(), tmp_path).read_bytes() == CONTENT
    assert len([path for path, _, _ in index.requests if path.startswith("/files")]) > 2


def test_a_corrupt_partial_file_is_discarded(index, tmp_path):
    (tmp_path / "thing-1.0.tar.gz.part").write_bytes(b"x" * 1000)
    assert fetch_pinned(pinned(), tmp_path).read_bytes() == CONTENT
    assert [span for _, span, _ in index.requests] == [None, "bytes=1000-", None]


def test_a_file_with_another_hash_is_rejected(index, tmp_path):
    index.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match="does not have the pinned sha256") as caught:
        fetch_pinned(pinned(), tmp_path)
    assert "put the file itself at" in str(caught.value)
    assert not (tmp_path / "thing-1.0.tar.gz").exists()


def test_credentials_go_to_the_index_host_and_stay_out_of_the_message(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("http://", "http://ann:s3cret@"))
    fetch_pinned(pinned(), tmp_path)
    assert all(authorization for _, _, authorization in index.requests)
    with pytest.raises(DownloadError) as caught:
        fetch_pinned(replace(pinned(), filename="missing.whl"), tmp_path)
    assert "does not list missing.whl" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_full_disk_is_reported_before_anything_is_downloaded(index, tmp_path):
    with pytest.raises(NotEnoughSpaceError, match=r"bytes are needed and [\d,]+ bytes are free"):
        fetch_pinned(replace(pinned(), size=10**18), tmp_path)
    assert index.requests == []


def test_index_urls_follow_pip_and_uv():
    assert index_urls({}) == ["https://pypi.org/simple"]
    assert index_urls({"PIP_INDEX_URL": "http://a/simple/", "PIP_EXTRA_INDEX_URL": "http://b"}) == [
        "http://a/simple",
        "http://b",
    ]
    assert index_urls({"UV_DEFAULT_INDEX": "http://a", "UV_INDEX": "mine=http://c"}) == [
        "http://a",
        "http://c",
    ]
    assert index_urls({"PIP_EXTRA_INDEX_URL": "file:///x"}) == ["https://pypi.org/simple"]


def test_a_lock_keeps_a_second_thread_out(tmp_path):
    order = []

    def second():
        with exclusive_lock(tmp_path / "lock"):
            order.append("second")

    with exclusive_lock(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
