"""Ctrl-C on `tunesmith serve`, typed in a pseudo-terminal: it says what it waits for."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

import tunesmith
from terminal import Terminal
from tunesmith.cli import main
from tunesmith.testing import write_tiny_home, write_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals"),
]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("stops") / "tiny")


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path) -> Path:
    return write_tiny_home(tmp_path / "home", tiny_model)


@pytest.fixture
def serve(home: Path):
    """`tunesmith serve` on a terminal, as it is once it answers."""
    program = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", "--home", str(home)]
    with Terminal(program) as terminal:
        terminal.wait_for("Dashboard: http://")
        yield terminal


def client_of(home: Path) -> tunesmith.Client:
    from tunesmith.engine.home import Home
    from tunesmith.engine.server_lock import find_running_server

    server = find_running_server(Home(home))
    assert server is not None
    return tunesmith.Client(base_url=server.url, api_key="any", max_retries=0)


def training_job(client: tunesmith.Client) -> str:
    """Start a training that takes minutes, and wait until it runs."""
    rows = [{"prompt": f"number {n} ->", "completion": f" {n} is a number"} for n in range(2000)]
    data = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    file = client.files.create(file=("rows.jsonl", data), purpose="fine-tune")
    job = client.fine_tunes.create(training_file=file.id, model="ada", n_epochs=50, batch_size=1)
    deadline = time.monotonic() + 120
    while client.fine_tunes.retrieve(job.id).status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job.id


def test_without_work_it_stops_at_once(serve: Terminal):
    serve.press("\x03")
    assert serve.end() == 0
    assert "Stopping." in serve.text
    assert "Traceback" not in serve.text


def test_it_names_the_training_that_will_be_resumed(serve: Terminal, home: Path, capsys):
    with client_of(home) as client:
        job = training_job(client)
    serve.press("\x03")
    assert serve.end() == 0
    said = " ".join(serve.text.split())
    assert f"job {job}, which writes a checkpoint and continues from it at the next start" in said
    assert "Ctrl-C again stops at once." in said
    assert main(["status", "--home", str(home)]) == 0
    assert "1 queued" in capsys.readouterr().out


def test_a_second_one_does_not_wait_for_an_open_request(serve: Terminal, home: Path):
    ended = threading.Event()

    def ask() -> None:
        with client_of(home) as client:
            try:
                client.completions.create(
                    model="ada", prompt=["x"] * 64, max_tokens=200, n=4, best_of=4
                )
            except tunesmith.TunesmithError:
                ended.set()

    with client_of(home) as client:
        job = training_job(client)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    time.sleep(1.0)
    serve.press("\x03")
    serve.wait_for("Ctrl-C again")
    serve.press("\x03")
    assert serve.end() == 0
    asking.join(30)
    said = " ".join(serve.text.split())
    assert "an open request, for 10 seconds at most" in said
    assert "Stopping at once" in said
    assert ended.is_set()
    assert "Traceback" not in serve.text
    assert job in said
