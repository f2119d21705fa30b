"""Hostile requests, made from the whole OpenAPI document: no 5xx, no error outside the envelope.

Afterwards every listing can be read to its end, and everything in it by its id.
TUNESMITH_HOSTILE_REQUESTS sets the number of requests (10,000 take some minutes),
TUNESMITH_HOSTILE_SEED which ones, TUNESMITH_TEST_DATABASE_URL the database:

    TUNESMITH_HOSTILE_REQUESTS=10000 pytest -s tests/engine/api/test_hostile_requests.py
"""

from __future__ import annotations

import itertools
import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from hostile_requests import HostileRequest, HostileRequests

REQUESTS = int(os.environ.get("TUNESMITH_HOSTILE_REQUESTS", "400"))
SEED = int(os.environ.get("TUNESMITH_HOSTILE_SEED", "0"))
AT_A_TIME = 4
PAGES = ("/", "/new-job", "/playground", "/files", "/models", "/stored", "/exports", "/names")


@pytest.fixture(scope="module")
def known(http: httpx.Client, upload: Any) -> dict[str, list[Any]]:
    """Make one of everything; return the ids by the names that parameters have."""
    file = upload()["id"]
    ask = {"model": "ada", "messages": [{"role": "user", "content": "I"}], "max_tokens": 2}
    stored = http.post("chat/completions", json=ask | {"store": True}).json()["id"]
    begun = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 3, "mime_type": "text/jsonl"}
    parts = http.post("uploads", json=begun).json()["id"]
    body = {"training_file": file, "model": "ada", "n_epochs": 1}
    job = http.post("fine-tunes", json=body).json()["id"]
    return {
        "file_id": [file],
        "training_file": [file],
        "validation_file": [file],
        "completion_id": [stored],
        "upload_id": [parts],
        "fine_tune_id": [job],
        "fine_tuning_job_id": [job.replace("ft-", "ftjob-")],
        "fine_tuned_model_checkpoint": ["ada"],
        "model": ["ada", "gpt-4o-mini"],
        "engine": ["ada"],
        "role": ["user", "assistant", "system"],
        "max_tokens": [1, 3],
        "max_completion_tokens": [1, 3],
        "n_epochs": [1],
        "purpose": ["fine-tune"],
        "stream": [False],
        "file": ['{"prompt": "a ->", "completion": " b\\n"}\n' * 12, "{}", "\x00"],
        "data": ["abc"],
    }


@pytest.mark.slow
def test_no_hostile_request_breaks_the_engine(engine: Any, http: httpx.Client, known: Any):
    root = engine.base_url.removesuffix("/v1")
    document = httpx.get(f"{root}/openapi.json").json()
    made = HostileRequests(document, known, SEED)
    assert len(made) > 30
    statuses: Counter[int] = Counter()
    faults: list[Any] = []

    def send(request: HostileRequest) -> None:
        try:
            response = client.request(
                request.method,
                httpx.URL(root).copy_with(raw_path=raw_path(request)),
                headers=[
                    (one.encode(), text.encode("latin-1")) for one, text in request.headers.items()
                ],
                content=request.content,
            )
        except httpx.TransportError as error:
            faults.append((repr(error), request))
            return
        statuses[response.status_code] += 1
        if fault := fault_of(response):
            faults.append((fault, response.status_code, response.text[:500], request))

    with httpx.Client(timeout=120) as client, ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(send, itertools.islice(made, REQUESTS)))
    print(f"{REQUESTS} requests: {dict(sorted(statuses.items()))}")  # noqa: T201 - shown with -s
    assert not faults, "\n".join(str(fault)[:2000] for fault in faults[:20])
    assert statuses[200] > REQUESTS / 20
    assert_the_listings_are_whole(http, root)


def raw_path(request: HostileRequest) -> bytes:
    query = urlencode(
        [(name, value[:3000].encode("utf-8", "replace")) for name, value in request.query]
    )
    return f"{request.path}?{query}".encode() if query else request.path.encode()


def fault_of(response: httpx.Response) -> str:
    """Return what is wrong with an answer; "" if nothing is."""
    if response.status_code >= 500:
        return "a 5xx"
    if response.status_code < 400 or response.request.method == "HEAD":
        return ""
    if not response.headers.get("content-type", "").startswith("application/json"):
        return "an error that is not JSON"
    error = response.json().get("error")
    if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
        return "an error outside the envelope"
    return "" if isinstance(error["message"], str) and error["message"] else "an error without text"


def assert_the_listings_are_whole(http: httpx.Client, root: str) -> None:
    for path, by_id in (
        ("files", "files/"),
        ("fine-tunes", "fine-tunes/"),
        ("fine_tuning/jobs", "fine_tuning/jobs/"),
        ("models", "models/"),
        ("chat/completions", "chat/completions/"),
        ("exports", "exports/"),
    ):
        for identity in identities(http, path):
            answer = http.get(by_id + identity)
            assert answer.status_code == 200, (path, identity, answer.text)
    for page in PAGES:
        assert httpx.get(root + page, timeout=60).status_code == 200, page
    assert httpx.get(f"{root}/readyz").status_code == 200


def identities(http: httpx.Client, path: str) -> list[str]:
    found: list[str] = []
    while True:
        query = {"limit": 100} | ({"after": found[-1]} if found else {})
        answer = http.get(path, params=query if path not in {"models", "fine-tunes"} else {})
        assert answer.status_code == 200, (path, answer.text)
        page = answer.json()
        found += [one["id"] for one in page["data"]]
        if not page.get("has_more"):
            assert len(set(found)) == len(found)
            return found


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1 please\r\n\r\n",
        b"GET /v1/files HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: x\r\n\r\n",
        b"GET /v1/files HTTP/1.1\r\nhost: a\r\nx: " + b"y" * (80 << 10) + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_the_envelope(engine: Any, sent: bytes):
    url = httpx.URL(engine.base_url)
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(sent)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4"), answer
    assert b"application/json" in head
    assert body.startswith(b'{"error":'), answer


@pytest.mark.parametrize("chunked", [False, True])
def test_millions_of_token_ids_are_refused_before_they_are_read(http: httpx.Client, chunked: Any):
    body = b'{"model": "ada", "max_tokens": 1, "prompt": [' + b"1," * 2_000_000 + b"1]}"
    content = iter([body[: 1 << 20], body[1 << 20 :]]) if chunked else body
    answer = http.post("completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "too_many_values"
