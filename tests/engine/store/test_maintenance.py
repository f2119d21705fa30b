"""Garbage goes; what is needed stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from job_rows import job_row
from tunesmith.engine.home import Home
from tunesmith.engine.store import file_queries, job_queries, model_queries, upload_queries
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.garbage_collection import collect_garbage
from tunesmith.engine.store.records import FileRow, ModelRow, UploadPartRow, UploadRow


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


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
        job_queries.insert_job(connection, job_row("done", status="succeeded"))
        job_queries.insert_job(connection, job_row("running", status="running"))
        for name, path in (("m", "models/done"), ("c", "jobs/done/work/snapshots/step-2")):
            model = ModelRow(name, "local", 1.0, "done", "tiny", "ada", path)
            model_queries.insert_model(connection, model)

    removed = collect_garbage(home, database)

    assert [path for path in kept if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []
    assert removed.places == len(gone)
    assert collect_garbage(home, database).places == 0


def test_uploads_that_ended_or_expired_leave_nothing(tmp_path: Path, database: Database):
    home = Home(tmp_path)
    now = time.time()
    rows = [
        UploadRow("upload_open", "local", now, now + 60, "a", "fine-tune", 5),
        UploadRow("upload_old", "local", now - 7200, now - 3600, "a", "fine-tune", 5),
        UploadRow("upload_off", "local", now, now + 60, "a", "fine-tune", 5, status="cancelled"),
    ]
    with database.write() as connection:
        for number, row in enumerate(rows):
            upload_queries.insert_upload(connection, row)
            part = UploadPartRow(f"part_{number}", row.id, now, 5, "0" * 64)
            upload_queries.insert_part(connection, part)
            (home.uploads / row.id).mkdir(parents=True)
            (home.uploads / row.id / part.id).write_bytes(b"12345")

    collect_garbage(home, database)

    assert [folder.name for folder in home.uploads.iterdir()] == ["upload_open"]
    with database.read() as connection:
        assert upload_queries.get(connection, "local", "upload_old") is None
        assert upload_queries.received(connection, "upload_open") == (1, 5)
        assert upload_queries.received(connection, "upload_old") == (0, 0)
        assert upload_queries.get(connection, "other", "upload_open") is None
