"""Pulling an organisation into an archive: exact, resumable, and without a key in it."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from peak_memory import PEAK
from tunesmith import migrate
from tunesmith.cli import main
from tunesmith.migrate.pull_files import FilePull
from tunesmith.migrate.remote import Remote
from tunesmith.testing import Quirks, recorded_organization

from .conftest import FAST, contents, run_in_mode

KILL_POINTS = int(os.environ.get("TUNESMITH_KILL_POINTS", "4"))
WHOLE = ("whole", "slow", "cut")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_everything_that_is_there_is_pulled_and_the_rest_is_named(mode, organization, tmp_path):
    folder = tmp_path / "archive"
    report = run_in_mode(
        mode,
        organization,
        lambda client: migrate.pull(client, folder, projects=organization.keys),
        admin_api_key=organization.admin_key,
    )
    archive = migrate.Archive(folder)
    truth = organization.contents
    assert sorted(archive.projects) == sorted(truth.projects)
    assert report.counts["jobs"] == truth.job_count
    missing = {gap.remote_id: gap for gap in archive.gaps}
    fates = {
        "deleted": "gone", "listed_only": "gone", "expired": "expired", "forbidden": "forbidden",
        "short": "partial",
    }  # fmt: skip
    named = {
        one
        for project in archive.projects
        for job in archive.jobs(project)
        for one in [job.training_file, job.validation_file, *job.result_files]
    }
    for number in range(truth.file_count):
        project, file_id = truth.projects[truth.file_project(number)], truth.file_id(number)
        file, fate = archive.file(project, file_id), truth.fate(number)
        if fate in WHOLE or fate == "short":
            assert file.content.read_bytes() == truth.content(number)
        elif fate != "deleted" or file_id in named:
            assert file is None or file.content is None
        if fate not in WHOLE and (fate != "deleted" or file_id in named):
            assert missing.pop(file_id).status == fates[fate]
        if fate not in {"deleted", "listed_only"}:
            assert file.meta == truth.file(number)
    assert not missing
    assert {gap.http_status for gap in archive.gaps} == {403, 404, 410, 200}
    for number in range(truth.job_count):
        project = truth.projects[truth.job_project(number)]
        job = next(one for one in archive.jobs(project) if one.id == truth.job_id(number))
        assert job.job == truth.job(number)
        legacy = number < truth.legacy_count
        events = truth.legacy_events(number) if legacy else truth.events(number)[::-1]
        assert list(job.events()) == events
        assert job.checkpoints() == truth.checkpoints(number)[::-1]
    for at, project in enumerate(truth.projects):
        stored = list(archive.stored_completions(project))
        assert [one["completion"]["id"] for one in stored] == [
            truth.stored_id(at, position) for position in range(truth.stored)
        ]
        assert all(len(one["messages"]) == 2 for one in stored)
        assert len(list(archive.batches(project))) == len(truth.batch_pairs(at))
        folders = list(archive.evals(project))
        assert sorted(one.name for one in folders) == sorted(truth.eval_ids(at))
        items = (folders[0] / "output_items.jsonl").read_text().splitlines()
        assert len(items) == 2 * truth.eval_item_count
    assert migrate.verify(folder).faults == []


def test_result_tables_are_decoded_and_kept_as_they_came(calm, tmp_path):
    with calm.client(retry=FAST, admin_api_key=None) as client:
        migrate.pull(client, tmp_path)
    tables = [file for file in migrate.Archive(tmp_path).files() if file.table is not None]
    raw = {file.content.read_bytes()[:5] == b"step," for file in tables}
    assert raw == {True, False}
    assert all(file.table.read_bytes().startswith(b"step,train_loss") for file in tables)


def test_a_second_pull_fetches_only_what_is_new(calm, tmp_path):
    with calm.client(retry=FAST, admin_api_key=None) as client:
        first = migrate.pull(client, tmp_path)
        assert first.is_complete
        before = contents(tmp_path)
        calm.requests.clear()
        second = migrate.pull(client, tmp_path)
        assert (second.added, second.is_complete) == (0, True)
        asked = dict(calm.requests)
        assert not {name for name in asked if "content" in name or "messages" in name}
        # The newest job still runs, so its events are read again.
        assert asked.get("GET /fine_tuning/jobs/{id}/events", 0) <= 3
        kept = contents(tmp_path)
        del before["manifest.json"], kept["manifest.json"]
        assert kept == before
        file = client.files.create(file=("new.jsonl", b'{"a": 1}\n'), purpose="fine-tune")
        model = next(one for one in calm.contents.models_of(0) if one.base.startswith("gpt"))
        client.chat.completions.create(
            model=model.name, messages=[{"role": "user", "content": "hello"}], store=True
        )
        calm.requests.clear()
        third = migrate.pull(client, tmp_path)
        assert calm.requests["GET /files/{id}/content"] == 1
        assert calm.requests["GET /chat/completions/{id}/messages"] == 1
        assert third.added == 3  # the file's object and content, and the stored completions
        assert migrate.verify(tmp_path).is_complete
        project = calm.projects[0]
        assert migrate.Archive(tmp_path).file(project, file.id).content.read_bytes()
        client.files.delete(file.id)
        calm._service.deleted.add(calm.contents.stored_id(0, 0))
        fourth = migrate.pull(client, tmp_path)
        assert (fourth.added, fourth.is_complete) == (0, True)
        # What the service has deleted since stays in the archive.
        assert migrate.Archive(tmp_path).file(project, file.id).content.read_bytes()


PROGRAM = """
import sys
from tunesmith import Client, RetryPolicy, migrate
key, url, folder, admin = sys.argv[1:]
fast = RetryPolicy(max_retries=2, initial_delay=0.01, max_delay=0.02)
with Client(key, base_url=url, retry=fast, admin_api_key=admin or None) as client:
    migrate.pull(client, folder)
"""


def started(organization: Any, folder: Path, key: str, **environment: str) -> Any:
    command = [sys.executable, "-c", PROGRAM, key, organization.base_url, str(folder), ""]
    return subprocess.Popen(command, env={**os.environ, **environment})


@pytest.mark.slow
def test_a_pull_that_is_killed_and_resumed_equals_an_undisturbed_one(tmp_path):
    """TUNESMITH_KILL_POINTS sets the number of moments; each is killed with SIGKILL."""
    moments = random.Random(7)  # noqa: S311 - no security
    fixed = {"SOURCE_DATE_EPOCH": "1795824000"}
    quirks = Quirks(deleted=0.1, expired=0.05, short=0.05, server_errors=0.05)
    with recorded_organization(quirks=quirks, stored=150, jobs=30, files=150) as organization:
        key = organization.keys[organization.projects[0]]
        whole = tmp_path / "whole"
        assert started(organization, whole, key, **fixed).wait(120) == 0
        expected, total = contents(whole), sum(organization.requests.values())
        assert len(expected) > 200
        for point in range(KILL_POINTS):
            folder = tmp_path / f"killed-{point}"
            organization._service._seen.clear()
            limit = moments.randrange(1, total)
            organization.requests.clear()
            process = started(organization, folder, key, **fixed)
            while process.poll() is None and sum(organization.requests.values()) < limit:
                time.sleep(0.0005)
            time.sleep(moments.random() * 0.01)
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            assert started(organization, folder, key, **fixed).wait(120) == 0
            found = contents(folder)
            assert found.keys() == expected.keys(), (point, limit)
            assert found == expected, (point, limit)
        assert migrate.verify(folder).faults == []


def test_a_pull_that_ends_before_a_result_file_is_decoded_decodes_it_later(
    calm, tmp_path, monkeypatch
):
    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with calm.client(retry=FAST, admin_api_key=None) as client:
        monkeypatch.setattr(FilePull, "_decode_results", interrupted)
        with pytest.raises(KeyboardInterrupt):
            migrate.pull(client, tmp_path)
        monkeypatch.undo()
        migrate.pull(client, tmp_path)
    results = {one.name for one in tmp_path.glob("projects/*/files/*/results.*")}
    assert results == {"results.raw", "results.csv"}
    for raw in tmp_path.glob("projects/*/files/*/results.raw"):
        assert raw.with_name("results.csv").exists()


def test_the_table_of_a_result_file_that_came_short_is_written_anew(calm, tmp_path, monkeypatch):
    download = Remote.download

    def halved(self: Remote, address: str, write: Any, restart: Any) -> Any:
        return download(self, address, lambda piece: write(piece[: len(piece) // 2]), restart)

    with calm.client(retry=FAST, admin_api_key=None) as client:
        migrate.pull(client, tmp_path / "whole")
        monkeypatch.setattr(Remote, "download", halved)
        assert not migrate.pull(client, tmp_path / "short").is_complete
        monkeypatch.undo()
        assert migrate.pull(client, tmp_path / "short").is_complete
    tables = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).glob("projects/*/files/*/results.csv")
        }
        for name in ("whole", "short")
    ]
    assert tables[0]
    assert tables[0] == tables[1]


def test_the_journal_of_a_killed_pull_may_end_in_the_middle_of_a_line(calm, tmp_path):
    with calm.client(retry=FAST, admin_api_key=None) as client:
        migrate.pull(client, tmp_path)
        entries = migrate.Archive(tmp_path).manifest["entries"]
        (tmp_path / "manifest.json").unlink()
        lines = [json.dumps({"entry": one}) for one in entries[:50]]
        (tmp_path / "journal.jsonl").write_text("\n".join(lines)[:-9])
        with pytest.raises(migrate.ArchiveError, match="run it again"):
            migrate.Archive(tmp_path)
        migrate.pull(client, tmp_path)
    assert len(migrate.Archive(tmp_path).manifest["entries"]) == len(entries)
    assert migrate.verify(tmp_path).is_complete


def test_rate_limits_are_kept(tmp_path):
    quirks = Quirks(requests_per_second=60)
    made = recorded_organization(quirks=quirks, files=40, jobs=8, stored=5)
    with made as organization, organization.client(retry=FAST, admin_api_key=None) as client:
        refused: list[int] = []
        answer = organization._service.answer

        def counted(received: Any) -> Any:
            given = answer(received)
            if given.status == 429:
                refused.append(1)
            return given

        organization._service.answer = counted
        report = migrate.pull(client, tmp_path, workers=8)
        total = sum(organization.requests.values())
    assert report.counts["contents"]
    assert len(refused) <= total * 0.2, (len(refused), total)


def test_no_key_gets_into_archive_logs_or_report(organization, tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with organization.client(retry=FAST) as client:
        report = migrate.pull(client, tmp_path, projects=organization.keys)
        client.files.create(
            file=("own.jsonl", organization.admin_key.encode()), purpose="fine-tune"
        )
    texts = [*contents(tmp_path).values(), caplog.text.encode(), repr(report).encode()]
    texts += capsys.readouterr().out.encode(), capsys.readouterr().err.encode()
    assert not any(b"SENTINEL" in text for text in texts)
    warned = report.warnings.items()
    assert any("job.json" in path and found == {"API key": 1} for path, found in warned)
    planted = organization.contents.planted_secret
    assert planted not in repr(report)


def test_the_archive_is_its_owners_alone(calm, tmp_path):
    folder = tmp_path / "above" / "archive"
    with calm.client(retry=FAST, admin_api_key=None) as client:
        migrate.pull(client, folder)
    for path in [folder, *folder.rglob("*")]:
        if path.name != ".lock":
            assert path.stat().st_mode & 0o077 == 0, path
    manifest = json.loads((folder / "manifest.json").read_text())
    assert all(not Path(entry["path"]).is_absolute() for entry in manifest["entries"])
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_a_free_account_is_told_as_forbidden(tmp_path):
    made = recorded_organization(quirks=Quirks(free_account=True))
    with made as organization, organization.client(retry=FAST, admin_api_key=None) as client:
        report = migrate.pull(client, tmp_path)
    gaps = [gap for gap in report.gaps if gap.http_status == 400]
    assert gaps
    assert {gap.status for gap in gaps} == {"forbidden"}
    assert "free accounts" in gaps[0].message
    assert not report.is_complete


def test_closed_services_are_gaps(tmp_path):
    quirks = Quirks(0, 0, 0, 0, 0, evals_closed=True, legacy_api=False)
    made = recorded_organization(quirks=quirks)
    with made as organization, organization.client(retry=FAST, admin_api_key=None) as client:
        report = migrate.pull(client, tmp_path)
    reported = {(gap.what, gap.status, gap.http_status) for gap in report.gaps}
    assert reported == {("evals", "gone", 410), ("fine-tunes", "gone", 404)}
    assert report.is_complete


def test_projects_without_a_key_are_gaps(calm, tmp_path):
    first, second = calm.projects
    with calm.client(retry=FAST) as client:
        report = migrate.pull(client, tmp_path / "tried")
        assert [gap.remote_id for gap in report.gaps] == [second]
        report = migrate.pull(client, tmp_path / "named", projects={first: calm.keys[first]})
        assert [(gap.remote_id, gap.what) for gap in report.gaps] == [(second, "project")]
        report = migrate.pull(client, tmp_path / "named", projects=calm.keys)
        assert report.is_complete
    user = tunesmith.Client(
        calm.user_key, base_url=calm.base_url, retry=FAST, admin_api_key=calm.admin_key
    )
    with user:
        report = migrate.pull(user, tmp_path / "user")
        assert (report.counts["projects"], report.is_complete) == (2, True)
        report = migrate.pull(user, tmp_path / "one", projects=[second])
        assert migrate.Archive(tmp_path / "one").projects == [second]


def test_a_wrong_key_is_an_error(calm, tmp_path):
    with calm.client(retry=FAST, admin_api_key=None) as client:
        wrong = client.with_options(api_key="sk-wrong-and-long")
        with pytest.raises(tunesmith.AuthenticationError):
            migrate.pull(wrong, tmp_path)


@pytest.mark.parametrize("version", ["v1", "2024-10-21"])
def test_azure(version, tmp_path):
    with recorded_organization("azure") as organization:
        client = tunesmith.AzureClient(
            azure_endpoint=organization.azure_endpoint,
            api_version=version,
            api_key=organization.keys[organization.projects[0]],
            retry=FAST,
        )
        with client:
            report = migrate.pull(client, tmp_path)
            with pytest.raises(tunesmith.ConfigurationError, match="no projects"):
                migrate.pull(client, tmp_path, projects=["a"])
    archive = migrate.Archive(tmp_path)
    assert archive.manifest["source"]["service"] == "azure"
    assert archive.projects == ["default"]
    assert report.counts["jobs"] == 24
    assert any(".ft-" in (job.fine_tuned_model or "") for job in archive.jobs())
    assert migrate.verify(tmp_path).faults == []


def test_a_folder_with_other_things_is_refused(calm, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    client = calm.client(retry=FAST, admin_api_key=None)
    with client, pytest.raises(migrate.ArchiveError, match="not empty"):
        migrate.pull(client, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_ten_thousand_files_and_two_thousand_jobs_need_150_megabytes(tmp_path):
    program = (
        PROGRAM
        + PEAK
        + (
            "print(int(peak_mebibytes()))\n"
            "client = Client(key, base_url=url, retry=fast, admin_api_key=admin)\n"
            "report = migrate.pull(client, folder)\n"
            "assert report.counts['projects'] == 2, report.counts\n"
            "print(int(peak_mebibytes()))\n"
        )
    )
    made = recorded_organization(files=10_000, jobs=2_000, rows=8, stored=500)
    with made as organization:
        command = [
            sys.executable, "-c", program, organization.user_key, organization.base_url,
            str(tmp_path / "archive"), organization.admin_key,
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert ran.returncode == 0, ran.stderr
    first, second = map(int, ran.stdout.split())
    assert first <= second < 150, (first, second)
    archive = migrate.Archive(tmp_path / "archive")
    assert archive.manifest["counts"]["jobs"] == 2_000
    assert archive.manifest["counts"]["files"] > 9_000
    assert migrate.verify(tmp_path / "archive").faults == []


def test_the_command(organization, tmp_path, monkeypatch, capsys):
    folder = str(tmp_path / "archive")
    first, second = organization.projects
    monkeypatch.setenv("OPENAI_BASE_URL", organization.base_url)
    monkeypatch.setenv("KEY_A", organization.keys[first])
    monkeypatch.setenv("KEY_B", organization.keys[second])
    command = ["migrate", "pull", folder, "--project", f"{first}=KEY_A", "--json"]
    assert main([*command, "--project", f"{second}=KEY_B"]) == 5
    reported = json.loads(capsys.readouterr().out)
    assert reported["counts"]["projects"] == 2
    assert not reported["is_complete"]
    assert main(["migrate", "verify", folder]) == 5
    assert "incomplete" in capsys.readouterr().out
    assert main(["migrate", "pull", folder, "--project", f"{first}=NO_SUCH_VARIABLE"]) == 1
    assert "environment variable" in capsys.readouterr().err


def test_the_command_of_a_complete_archive(calm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_BASE_URL", calm.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", calm.keys[calm.projects[0]])
    assert main(["migrate", "pull", str(tmp_path)]) == 0
    assert "is complete" in capsys.readouterr().out
    assert main(["migrate", "verify", str(tmp_path)]) == 0
