"""Who may come in: keys, web pages, proxies, slow and hostile senders."""

from __future__ import annotations

import json
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tunesmith.engine import Engine, start
from tunesmith.engine.security.keys import create_key, revoke_key
from tunesmith.engine.store.database import Database
from tunesmith.testing import write_tiny_home

COMPLETION = {"model": "tiny", "prompt": "a", "max_tokens": 1}


@pytest.fixture(scope="module")
def keyed_engine(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path):
    home = tmp_path_factory.mktemp("keyed")
    write_tiny_home(home, tiny_base_model)
    with start(home, trusted_proxies=("127.0.0.2",)) as running:
        yield running


@pytest.fixture(scope="module")
def database(keyed_engine: Engine) -> Iterator[Database]:
    opened = Database(f"sqlite:///{keyed_engine.home.database}")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def as_key(database: Database) -> Callable[..., dict[str, str]]:
    """Create a key; return the headers that send it."""

    def headers(organization: str = "local", role: str = "owner") -> dict[str, str]:
        _, secret = create_key(database, name="test", organization=organization, role=role)
        time.sleep(1.1)  # a server reads the keys once a second
        return {"authorization": f"Bearer {secret}"}

    return headers


def unsafe_operations(http: httpx.Client) -> list[tuple[str, str]]:
    answer = http.get(http.base_url.join("/openapi.json"))
    assert answer.status_code == 200, answer.text
    paths = answer.json()["paths"]
    return [
        (method, path)
        for path, operations in paths.items()
        for method in operations
        if method not in {"get", "head"}
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": "https://evil.example", "authorization": "Bearer any"},
    ],
    ids=str,
)
def test_without_keys_a_foreign_page_changes_and_computes_nothing(http, headers):
    operations = unsafe_operations(http)
    assert len(operations) > 8
    for method, path in operations:
        address = http.base_url.join(path.replace("{", "").replace("}", ""))
        answer = http.request(method, address, json=COMPLETION, headers=headers)
        assert answer.status_code == 403, (method, path)
        assert answer.json()["error"]["code"] == "foreign_origin"


def test_programs_and_the_own_pages_are_no_foreign_pages(engine, http):
    own = urlsplit(engine.base_url)
    for headers in (
        {},
        {"origin": f"{own.scheme}://{own.netloc}", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        assert http.post("completions", json=COMPLETION, headers=headers).status_code == 200


def test_a_page_has_to_name_the_type_of_its_body(engine, http):
    own = {"origin": engine.base_url.removesuffix("/v1")}
    body = json.dumps(COMPLETION).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = own | {"content-type": kind}
        answer = http.post("completions", content=body, headers=headers)
        assert answer.status_code == 415, kind
        assert "application/json" in answer.json()["error"]["message"]
    assert http.post("completions", content=body).status_code == 200  # a program, not a page


def test_with_keys_a_page_of_another_site_may_send_one(keyed_engine, as_key):
    headers = as_key() | {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
    answer = httpx.post(
        f"{keyed_engine.base_url}/completions", json=COMPLETION, headers=headers, timeout=60
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["files", "completions", "fine_tuning/jobs", "chat/completions"])
def test_the_key_is_checked_before_the_body_is_read(keyed_engine, as_key, path):
    as_key()
    address = urlsplit(keyed_engine.base_url)
    head = (
        f"POST /v1/{path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
        "content-length: 8000000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as sender:
        sender.sendall(head.encode())
        assert sender.recv(64).startswith(b"HTTP/1.1 401")


def test_an_event_stream_ends_when_its_key_is_revoked(keyed_engine, database, as_key):
    keeper = as_key()
    row, secret = create_key(database, name="test")
    time.sleep(1.1)
    leaving = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=keyed_engine.base_url, timeout=60) as http:
        text = b'{"prompt": "a ->", "completion": " b\\n"}\n' * 12
        file = http.post(
            "/files",
            data={"purpose": "fine-tune"},
            files={"file": ("a.jsonl", text)},
            headers=keeper,
        ).json()
        body = {"training_file": file["id"], "model": "tiny", "hyperparameters": {"n_epochs": 50}}
        job = http.post("/fine_tuning/jobs", json=body, headers=keeper).json()
        http.post(f"/fine_tuning/jobs/{job['id']}/pause", headers=keeper)
        path = f"/fine_tuning/jobs/{job['id']}/events"
        with http.stream("GET", path, params={"stream": "true"}, headers=leaving) as answer:
            chunks = answer.iter_text()
            next(chunks)
            revoke_key(database, row.id)
            rest = "".join(chunks)  # ends, although the job is paused
        assert "[DONE]" not in rest
        http.post(f"/fine_tuning/jobs/{job['id']}/cancel", headers=keeper)


def test_owners_see_the_metrics_of_their_own_organization(keyed_engine, as_key):
    theirs, ours = as_key("acme"), as_key()
    root = keyed_engine.base_url.removesuffix("/v1")
    with httpx.Client(timeout=60) as http:
        http.request("BREW", f"{root}/{'x' * 5000}", headers=ours)
        http.get(f"{root}/v1/models", headers=theirs)
        http.post(f"{root}/v1/completions", json=COMPLETION, headers=ours)
        acme = http.get(f"{root}/metrics", headers=theirs).text
        all_of_them = http.get(f"{root}/metrics", headers=ours).text
    assert 'route="/v1/models"' in acme
    assert "/v1/completions" not in acme
    assert "tunesmith_event_streams" not in acme
    assert "/v1/completions" in all_of_them
    assert 'method="other"' in all_of_them
    assert "BREW" not in all_of_them
    log = keyed_engine.log_path.read_text(encoding="utf-8")
    assert "x" * 400 in log
    assert "x" * 600 not in log


def test_only_a_proxy_that_the_settings_name_is_believed(keyed_engine, as_key):
    headers = as_key() | {"x-forwarded-for": "203.0.113.7"}
    url = f"{keyed_engine.base_url}/completions"
    for address in ("127.0.0.1", "127.0.0.2"):
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as http:
            http.post(url, json=COMPLETION, headers=headers, timeout=60)
    audit = keyed_engine.home.root / "audit.log"
    deadline = time.monotonic() + 10  # a line is written after the answer
    while '"203.0.113.7"' not in audit.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert audit.read_text(encoding="utf-8").count("203.0.113.7") == 1


def test_the_state_folder_is_the_owners_alone(keyed_engine):
    root = keyed_engine.home.root
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    made = [root / "engine.db", root / "audit.log", root / "server.lock"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o600] * 3


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("one large field", [("x", "y" * (65 << 10))]),
        ("many fields", [(f"field{number}", "y") for number in range(100)]),
        ("one field again and again", [("x", "y" * 60_000)] * 100),
    ],
)
def test_the_fields_of_an_upload_are_limited_together(http, kind, parts):
    body = "".join(
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = http.post("files", content=f"{body}--b--\r\n".encode(), headers=headers)
    assert answer.status_code in {400, 413}, kind


def test_a_preamble_or_a_header_without_end_is_refused(http):
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for start_of_body in (b"", b"--b\r\ncontent-disposition: "):
        sent = 0

        def endless(first: bytes = start_of_body):
            nonlocal sent
            yield first
            for _ in range(200):
                sent += 1
                yield b"x" * (64 << 10)

        answer = http.post("files", content=endless(), headers=headers)
        assert answer.status_code in {400, 413}


def test_a_request_head_has_a_time_limit(monkeypatch, tmp_path):
    from tunesmith.engine import connections
    from tunesmith.engine import server as server_module
    from tunesmith.engine.app import create_app
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.home import Home

    monkeypatch.setattr(connections, "_HEAD_SECONDS", 0.5)
    config = EngineConfig(home=Home(tmp_path))
    opened = Database(config.database)
    opened.migrate()
    ready = threading.Event()
    server = server_module.Server(create_app(config, opened), config, ready.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert ready.wait(60)
            address = listener.getsockname()
            for sent in (b"", b"GET /healthz HTTP/1.1\r\nhost: loc"):
                with socket.create_connection(address, timeout=20) as slow:
                    slow.sendall(sent)
                    assert slow.recv(64).startswith(b"HTTP/1.1 408")
            with socket.create_connection(address, timeout=20) as second:
                second.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += second.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200")
                second.sendall(b"GET /hea")
                assert second.recv(64).startswith(b"HTTP/1.1 408")
        finally:
            server.stop()
            thread.join(60)
