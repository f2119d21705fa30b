"""The limit of open files is reached: the engine says so once, and serves again afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith.testing import write_tiny_home

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="only Linux limits another process"
)

LIMIT = 256


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Iterator[Any]:
    """An engine that may open 256 files; yields its address and its log."""
    home = tmp_path_factory.mktemp("limited")
    write_tiny_home(home, tiny_base_model)
    # One organisation may use all connections.
    (home / "engine.toml").write_text("[limits]\nconcurrent_requests = 1000\n", encoding="utf-8")
    log = home / "log"
    serve = (
        f"import sys; from tunesmith.cli import main; sys.exit(main({['serve', '--port', '0']}))"
    )
    with log.open("wb") as output:
        engine = subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh", sys.executable, "-c", serve],
            stderr=output,
            env=os.environ | {"TUNESMITH_HOME": str(home)},
        )
    deadline = time.monotonic() + 60
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    yield int(found[1]), log
    engine.terminate()
    assert engine.wait(60) == 0


def connect(port: int, number: int, sent: bytes) -> contextlib.ExitStack:
    """Open connections that send no whole request, until they are closed together."""
    opened = contextlib.ExitStack()
    for _ in range(number):
        one = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        with contextlib.suppress(OSError):  # it may have been closed already
            one.sendall(sent)
    return opened


HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.slow
def test_requests_are_served_while_others_hold_connections_open(limited: Any):
    port, log = limited
    base_url = f"http://127.0.0.1:{port}/v1"
    ask = {"model": "ada", "prompt": "I", "max_tokens": 1}
    for sent in (b"", HEAD, HEAD + b"content-length: 9\r\n\r\n{"):
        with connect(port, 3 * LIMIT, sent):
            for _ in range(3):
                assert httpx.get(f"{base_url}/files", timeout=20).status_code == 200
            answer = httpx.post(f"{base_url}/completions", json=ask, timeout=60)
            assert answer.status_code == 200
    assert log.read_text().count("limit of open files") == 1
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_a_connection_without_room_is_told_so(limited: Any, rows: str):
    """Requests that are being answered stay; one more is refused in the envelope."""
    port, _ = limited
    base_url = f"http://127.0.0.1:{port}/v1"
    form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("train.jsonl", rows.encode())}}
    file = httpx.post(f"{base_url}/files", timeout=20, **form).json()["id"]
    job = httpx.post(f"{base_url}/fine_tuning/jobs", json=body(file), timeout=20).json()["id"]
    assert httpx.post(f"{base_url}/fine_tuning/jobs/{job}/pause", timeout=20).status_code == 200
    path = f"{base_url}/fine-tunes/{job.replace('ftjob', 'ft')}/events?stream=true"
    limits = httpx.Limits(max_connections=None)
    with contextlib.ExitStack() as streams, httpx.Client(limits=limits, timeout=20) as http:
        answers = []
        while not answers or answers[-1].status_code == 200:
            assert len(answers) <= LIMIT
            answers.append(streams.enter_context(http.stream("GET", path)))
        refused = answers.pop()
        refused.read()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "too_many_connections"
        assert http.post(f"{base_url}/fine_tuning/jobs/{job}/cancel").status_code == 503
        answers.pop().close()
        cancelled = wait_for(
            lambda: http.post(f"{base_url}/fine_tuning/jobs/{job}/cancel").status_code == 200, 20
        )
        assert cancelled
        for answer in answers:
            assert answer.read().endswith(b"data: [DONE]\n\n")
    assert httpx.get(f"{base_url}/files", timeout=20).status_code == 200


@pytest.mark.slow
def test_an_engine_without_a_free_descriptor_recovers(make_platform: Callable[..., Any]):
    """The table is full for everything: connections, the database, files, new processes."""
    platform = make_platform(checkpoint_every_seconds=0.1)
    file = platform.upload()
    undisturbed = platform.finished(platform.create(file, 6))
    pid, base_url = platform.engine.pid, platform.engine.base_url
    log = platform.engine.log_path
    following: list[str] = []
    waiting = contextlib.ExitStack()

    def follow(job: dict[str, Any]) -> None:
        path = f"{base_url}/fine-tunes/{job['id'].replace('ftjob', 'ft')}/events?stream=true"
        with httpx.stream("GET", path, timeout=120) as answer:
            following.extend(line for line in answer.iter_lines() if line.startswith("data:"))

    running = platform.create(file, 25)
    queued = platform.create(file, 6)
    platform.reached(running, 1)
    thread = threading.Thread(target=follow, args=(running,))
    thread.start()
    with httpx.Client(base_url=base_url + "/", timeout=60) as kept:
        assert kept.get("files").status_code == 200
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        began = len(log.read_bytes())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, limits[1]))
        try:
            refused = kept.post(
                "files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", b"{}")}
            )
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "too_many_open_files"
            waiting.enter_context(connect(httpx.URL(base_url).port, 20, HEAD))
            ended = time.monotonic() + 3  # at least
            while platform.rows(running, "status") == "running" or time.monotonic() < ended:
                assert kept.get("models").status_code in {200, 503}
                time.sleep(0.2)
            time.sleep(1)  # the queued job's turn
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            waiting.close()
    wait_for(lambda: httpx.get(f"{base_url}/files", timeout=20).status_code == 200, 10)
    for job in (running, queued):
        assert platform.finished(job)["status"] == "succeeded"
        assert platform.rows(job, "attempts") == 1
    assert platform.results(queued) == platform.results(undisturbed)
    thread.join(60)
    assert following[-1] == "data: [DONE]"
    said = log.read_bytes()[began:].decode()
    assert said.count("limit of open files") == 1
    assert "Traceback" not in said, said
    assert len(said) < 100_000


def wait_for(seen: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    return True


def body(file: str) -> dict[str, Any]:
    return {
        "training_file": file,
        "model": "gpt-4o-mini",
        "seed": 7,
        "hyperparameters": {"n_epochs": 20, "batch_size": 1},
    }
