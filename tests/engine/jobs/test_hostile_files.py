"""Files made to keep the validation busy: they cost their own organisation alone, and not long."""

from __future__ import annotations

import logging

import pytest

from job_rows import job_row
from tunesmith.datasets import check_file
from tunesmith.engine.jobs import job_worker, leases
from tunesmith.engine.jobs.launcher import DATABASE_VARIABLE
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.database import Database

ROW = b'{"prompt": "I love it ->", "completion": " positive"}\n'
ONES = "1\n" * 5_000_000  # each line is a fault of its own


def test_a_validation_ends_at_its_limit_and_says_so(make_platform):
    platform = make_platform(validation_seconds=1.0)
    file = platform.upload(ONES)
    job = platform.finished(platform.create(file, 1))
    assert job["status"] == "failed"
    assert job["error"]["code"] == "validation_timeout"
    assert job["error"]["param"] == "training_file"
    assert file in job["error"]["message"]
    assert "validation_seconds" in job["error"]["message"]
    assert platform.finished(platform.create(platform.upload(), 1))["status"] == "succeeded"


def test_each_organisation_has_one_validation_at_a_time(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'engine.db'}")
    database.migrate()
    with database.write() as connection:
        for number, organization in enumerate(["flood"] * 5 + ["quiet", "other"]):
            row = job_row(f"job{number}", organization, created_at=float(number))
            job_queries.insert_job(connection, row)
        claimed = [leases.claim(connection, "validation") for _ in range(4)]
        assert [job and job.organization for job in claimed] == ["flood", "quiet", "other", None]
        first = claimed[0]
        assert first is not None
        job_queries.change(connection, first.id, status="queued", worker_id=None)
        following = leases.claim(connection, "validation")
        assert following is not None
        assert following.id == "job1"


class RustPanic(BaseException):
    """As a library written in Rust raises."""


@pytest.mark.parametrize(
    "error", [RustPanic("half of \ud83d\0 a pair"), SystemExit(1), RecursionError(), KeyError("x")]
)
def test_whatever_ends_a_validation_is_named_with_its_place(tmp_path, monkeypatch, error):
    def fail(*_arguments, **_options):
        raise error

    url = f"sqlite:///{tmp_path / 'engine.db'}"
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        job_queries.insert_job(connection, job_row("job0"))
        claimed = leases.claim(connection, "validation")
    assert claimed is not None
    monkeypatch.setattr(job_worker, "find_fault", fail)
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    monkeypatch.setattr(job_worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(job_worker, "lower_priority", lambda: None)
    # What is logged comes into pytest's report, which half of a surrogate pair could not leave.
    monkeypatch.setattr(logging.getLogger("tunesmith.engine.worker"), "propagate", False)
    # A heartbeat that finds the job ended would end this process.
    options = ["--home", str(tmp_path), "--stage", "validation", "--heartbeat", "86400"]
    options += ["--worker", claimed.worker_id]
    assert job_worker.main([*options, claimed.id]) == 0
    with database.read() as connection:
        job = job_queries.find(connection, claimed.id)
    assert job.status == "failed"
    assert job.error["code"] == "validation_failed"
    assert type(error).__name__ in job.error["message"]
    assert "in fail, test_hostile_files.py line" in job.error["message"]


@pytest.mark.parametrize(
    "lines", [b"\n" * 20_000_000, b" \t\r\n" * 5_000_000], ids=["empty", "white space"]
)
def test_blank_lines_are_one_finding_and_cost_little(tmp_path, lines):
    path = tmp_path / "blank.jsonl"
    path.write_bytes(ROW + lines + ROW + b"\n" * 3 + b"[1]\n")
    report = check_file(path, "engine")
    blank = next(finding for finding in report.findings if finding.id == "blank-line")
    count = lines.count(b"\n")
    assert blank.count == count + 3
    assert blank.examples[0].line == 2
    assert blank.examples[0].byte_offset == len(ROW)
    error = report.first_error()
    assert error is not None
    assert error.examples[0].line == count + 6
    assert error.examples[0].byte_offset == path.stat().st_size - 4


def test_brackets_alone_are_given_up(tmp_path):
    path = tmp_path / "brackets.jsonl"
    path.write_bytes(b"[" * 20_000_000)
    report = check_file(path, "engine")
    assert "not closed" in str(report.first_error())
