"""Uploads to a hub on a real socket: private unless told otherwise, and every file arrives."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UPLOAD = (
    "import sys; from pathlib import Path; from tunesmith.engine.transfer import upload_to_hub\n"
    "print(upload_to_hub(Path(sys.argv[1]), 'org/model', public=sys.argv[2] == 'public'))\n"
)


class Hub(ThreadingHTTPServer):
    """The part of the hub's API that an upload uses; large files go to its LFS storage."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.created = []
        self.files = {}
        self.stored = {}
        self.refuses = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        private = all(one["visibility"] == "private" for one in self.server.created)
        self.answer({"id": "org/model", "private": private, "sha": COMMIT, "siblings": []})

    def do_PUT(self):
        content = self.body()
        self.server.stored[hashlib.sha256(content).hexdigest()] = content
        self.answer({})

    def do_POST(self):
        path, body = urlsplit(self.path).path, self.body()
        if self.server.refuses:
            self.answer({"error": "You are not allowed to create this repository"}, 403)
        elif path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.url}/org/model", "name": "org/model"})
        elif path.startswith("/api/models/org/model/preupload"):
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "uploadMode": mode(file["path"]), "shouldIgnore": False}
                for file in files
            ]
            self.answer({"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            href = f"{self.server.url}/storage"
            objects = [
                {**one, "actions": {"upload": {"href": href}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif path.startswith("/api/models/org/model/commit"):
            self.commit(body)
            url = f"{self.server.url}/org/model/commit/{COMMIT}"
            self.answer({"success": True, "commitUrl": url, "commitOid": COMMIT})
        else:
            self.answer({"private": True})

    def commit(self, body):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.stored[value["oid"]]

    def body(self):
        length = self.headers.get("Content-Length")
        if length is not None:
            return self.rfile.read(int(length))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.git-lfs+json")
        self.send_header("Content-Length", str(len(content)))
        if status == 403:
            self.send_header("X-Error-Message", value["error"])
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def mode(path):
    return "lfs" if path.endswith((".safetensors", ".gguf")) else "regular"


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "README.md").write_text("# a model\n")
    (folder / ".gitignore").write_text("*.safetensors\n")
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(5000))
    return folder


def upload(hub, folder, visibility="private"):
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_sentinel",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder.parent / "hf"),
    }
    command = [sys.executable, "-c", UPLOAD, str(folder), visibility]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_folder_is_uploaded_whole_to_a_private_repository(hub, folder):
    result = upload(hub, folder)
    assert result.returncode == 0, result.stderr
    assert "private=True" in result.stdout
    assert hub.created[0]["visibility"] == "private"
    sent = {
        name: (folder / name).read_bytes() for name in ("README.md", "adapter_model.safetensors")
    }
    assert sent.items() <= hub.files.items()


def test_a_repository_is_public_only_on_request(hub, folder):
    assert "private=False" in upload(hub, folder, "public").stdout
    assert hub.created[0]["visibility"] == "public"


def test_a_refusal_says_what_the_hub_said_and_how_to_log_in(hub, folder):
    hub.refuses = True
    result = upload(hub, folder)
    assert result.returncode == 1
    assert "ExportError: The hub did not take the model" in result.stderr
    assert "hf auth login" in result.stderr
    assert "hf_sentinel" not in result.stderr
