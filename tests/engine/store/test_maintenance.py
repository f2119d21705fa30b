"""Garbage goes; what is needed stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tunesmith.engine.home import Home
from tunesmith.engine.store import file_queries, job_queries, model_queries
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.garbage_collection import collect_garbage
from tunesmith.engine.store.records import FileRow, JobRow, ModelRow


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def job(identity: str, status: str) -> JobRow:
    values: dict[str, Any] = dict.fromkeys(("created_at", "updated_at"), 1.0)
    values |= dict.fromkeys(("model", "base_model", "family", "training_file"), "m")
    return JobRow(
        id=identity,
        api="fine-tuning",
        organization="local",
        status=status,
        seed=1,
        method="supervised",
        requested_hyperparameters={},
        **values,
    )


def test_only_unreferenced_data_is_removed(tmp_path: Path, database: Database):
    home = Home(tmp_path / "home")
    blobs = BlobStore(home.files)
    stored = {}
    for name in ("kept", "expired", "orphan", "fresh"):
        with blobs.incoming() as blob:
            blob.write(name.encode())
            blob.seal()
            blobs.keep(blob)
            stored[name] = blob.sha256
            if name != "fresh":
                os.utime(blobs.path(blob.sha256), (1, 1))
    kept = [
        blobs.path(stored["kept"]),
        blobs.path(stored["fresh"]),
        write(home.job("done") / "worker.log"),
        write(home.job("done") / "work" / "snapshots" / "step-2" / "weights"),
        write(home.job("running") / "work" / "resume"),
        write(home.job("running") / "data" / "training.jsonl"),
        write(home.models / "done" / "weights"),
        write(home.models / "running" / "weights"),
    ]
    gone = [
        blobs.path(stored["expired"]),
        blobs.path(stored["orphan"]),
        write(home.job("done") / "work" / "snapshots" / "step-1" / "weights"),
        write(home.job("done") / "work" / "resume"),
        write(home.job("done") / "data" / "training.jsonl"),
        write(home.job("never") / "worker.log"),
        write(home.models / ".deleted-abc" / "weights"),
        write(home.models / "never" / "weights"),
    ]
    with database.write() as connection:
        for name, expiry in (("kept", None), ("expired", time.time() - 1)):
            row = FileRow(name, "local", 1.0, name, "fine-tune", 1, stored[name], expiry)
            file_queries.insert_file(connection, row)
        job_queries.insert_job(connection, job("done", "succeeded"))
        job_queries.insert_job(connection, job("running", "running"))
        for name, path in (("m", "models/done"), ("c", "jobs/done/work/snapshots/step-2")):
            model = ModelRow(name, "local", 1.0, "done", "tiny", "ada", path)
            model_queries.insert_model(connection, model)

    removed = collect_garbage(home, database)

    assert [path for path in kept if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []
    assert removed.places == len(gone)
    assert collect_garbage(home, database).places == 0
