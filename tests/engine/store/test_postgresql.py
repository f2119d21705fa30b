"""The whole engine on PostgreSQL: a job from upload to completion, and its events."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tunesmith.engine import Home, start


def test_a_job_trains_with_its_queue_in_postgresql(tiny_home: Home, postgresql_url: str):
    rows = "".join(
        f'{{"prompt": "I {verb} it ->", "completion": " {mood}\\n"}}\n'
        for verb, mood in (("love", "positive"), ("hate", "negative"))
        for _ in range(4)
    )
    with (
        start(tiny_home.root, database_url=postgresql_url) as engine,
        httpx.Client(base_url=engine.base_url, timeout=60) as http,
    ):
        file = http.post(
            "/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", rows.encode())}
        ).json()
        body = {"training_file": file["id"], "model": "ada", "n_epochs": 1}
        job = http.post("/fine-tunes", json=body).json()
        path = f"/fine-tunes/{job['id']}/events?stream=true"
        with http.stream("GET", path, timeout=120) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("data:")]
        messages = [json.loads(line[5:])["message"] for line in lines[:-1]]
        model = http.get(f"/fine-tunes/{job['id']}").json()["fine_tuned_model"]
        assert http.get(f"/models/{model}").status_code == 200

    assert lines[-1] == "data: [DONE]"
    assert messages[-1] == "Fine-tune succeeded"
    assert "Completed epoch 1/1" in messages
    assert not Path(tiny_home.database).exists()
    log = (
        engine.log_path.read_text()
        + (tiny_home.job(job["id"].removeprefix("ft-")) / "worker.log").read_text()
    )
    assert postgresql_url not in log
