"""The list of jobs, from rows in a database."""

from __future__ import annotations

import pytest

from job_rows import job_row
from tunesmith.engine.dashboard.data_checks import _measured
from tunesmith.engine.dashboard.page_jobs import Filters, find_jobs, job_counts, latest_metrics
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.records import JobRow
from tunesmith.engine.training.estimates import TrainingCosts


def job(number: int, status: str = "queued", organization: str = "local", **fields) -> JobRow:
    # Two at a time: ids decide between them.
    times = {"created_at": 1000.0 + number // 2, "updated_at": 1000.0}
    return job_row(
        f"job{number:03}", organization, **times | {"status": status, "model": "tiny"} | fields
    )


@pytest.fixture
def connection(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'jobs.db'}")
    database.migrate()
    with database.write() as connection:
        for number in range(7):
            job_queries.insert_job(connection, job(number, "succeeded" if number % 2 else "queued"))
        job_queries.insert_job(connection, job(7, "failed", suffix="100%_sure"))
        job_queries.insert_job(connection, job(8, "running", organization="elsewhere"))
    with database.read() as connection:
        yield connection
    database.close()


def ids(connection, filters=None, before=None, limit=100):
    found = find_jobs(connection, "local", filters or Filters(), before, limit)
    return [int(row.id.removeprefix("job")) for row in found]


def test_pages_follow_each_other_without_gap_or_repetition(connection):
    seen, before = [], None
    while page := find_jobs(connection, "local", Filters(), before, 3):
        seen += [int(row.id.removeprefix("job")) for row in page]
        before = page[-1]
    assert seen == [7, 6, 5, 4, 3, 2, 1, 0]


def test_filters_by_status(connection):
    assert ids(connection, Filters(status="unfinished")) == [6, 4, 2, 0]
    assert ids(connection, Filters(status="failed")) == [7]
    assert ids(connection, Filters(status="no such")) == []


def test_search_has_no_wildcards(connection):
    assert ids(connection, Filters(text="0%_S")) == [7]
    assert ids(connection, Filters(text="%")) == [7]
    assert ids(connection, Filters(text="ftjob-job003")) == [3]
    assert ids(connection, Filters(text=" job003 ")) == [3]
    assert ids(connection, Filters(text="job_03")) == []


def test_counts(connection):
    counts = job_counts(connection, "local")
    assert counts == {"": 8, "unfinished": 4, "queued": 4, "succeeded": 3, "failed": 1}
    assert job_counts(connection, "nobody") == {"": 0, "unfinished": 0}


def test_the_latest_metrics_of_each_job(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'metrics.db'}")
    database.migrate()
    with database.write() as connection:
        for number in range(3):
            job_queries.insert_job(connection, job(number))
        for step in (1, 2):
            data = {"step": step, "train_loss": 1 / step}
            job_queries.add_event(connection, "job000", f"step:{step}", "step", data)
        job_queries.add_event(connection, "job000", "epoch:1", "epoch", {"epoch": 1})
        job_queries.add_event(connection, "job001", "epoch:1", "epoch", {"epoch": 1})
        found = latest_metrics(connection, ["job000", "job001", "job002"])
    database.close()
    assert found == {"job000": {"step": 2, "train_loss": 0.5}}


def test_a_forecast_rests_on_the_trainings_that_say_how_long_they_took(tmp_path):
    """Jobs without a start or without tokens were counted as measured, too."""
    costs = TrainingCosts("cpu", {"lora": (0.0, 0.01, 0.0)}, {})
    database = Database(f"sqlite:///{tmp_path / 'forecast.db'}")
    database.migrate()
    with database.write() as connection:
        for number in range(4):
            ended = job(number, "succeeded", trained_tokens=None if number == 2 else 1000)
            job_queries.insert_job(connection, ended)
            if number != 3:
                job_queries.add_event(connection, ended.id, "started", "started")
                begun = job_queries.started_at(connection, ended.id)
                job_queries.change(connection, ended.id, finished_at=begun + 20)
    with database.read() as connection:
        assert _measured(connection, "local", "tiny", "lora", costs) == (pytest.approx(2), 2)
        assert _measured(connection, "local", "tiny", "full", costs) == (1.0, 0)
    database.close()
