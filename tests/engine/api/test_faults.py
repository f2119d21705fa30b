"""The API while the database is locked by another program."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import httpx


def test_requests_that_read_do_not_queue_behind_those_that_write(engine, http, upload):
    """A locked database makes writers wait or refuses them (503); readers are answered."""
    file = upload("{}\n")
    lock = sqlite3.connect(engine.home.database, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    try:
        with ThreadPoolExecutor(60) as pool:
            writing = [
                pool.submit(
                    httpx.post,
                    f"{engine.base_url}/files",
                    data={"purpose": "fine-tune"},
                    files={"file": (f"{number}.jsonl", b"{}")},
                    timeout=60,
                )
                for number in range(60)
            ]
            time.sleep(1)
            for path in (f"files/{file['id']}", "files", "models", "fine-tunes"):
                assert http.get(path, timeout=5).status_code == 200
            for path in ("fine-tunes/ft-x/cancel", "fine_tuning/jobs/ftjob-x/pause"):
                assert http.post(path, timeout=5).status_code == 404
            assert http.delete("files/file-x", timeout=5).status_code == 404
            assert http.delete("models/nobody", timeout=5).status_code == 404
            lock.execute("ROLLBACK")
            answers = [one.result() for one in writing]
    finally:
        lock.close()
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["error"]["code"] == "database_unavailable"
    assert refused.headers["retry-after"] == "1"
