"""Deleting is whole, and said: what went, what stays, and how many bytes are free again."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunesmith.cli import main
from tunesmith.testing import SimulatedEngine, simulate

Run = Callable[[str], tuple[int, str]]


@pytest.fixture(scope="module")
def engine() -> Iterator[SimulatedEngine]:
    with simulate() as running:
        yield running


@pytest.fixture
def run(engine: SimulatedEngine, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path) -> Run:
    """Run a command line; return its exit code and all that it prints, in one line."""
    monkeypatch.setenv("TUNESMITH_BASE_URL", engine.base_url)
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    monkeypatch.setenv("TUNESMITH_HOME", str(engine.home.root))
    monkeypatch.chdir(tmp_path)

    def command(line: str) -> tuple[int, str]:
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    return command


@pytest.fixture
def job(engine: SimulatedEngine, tmp_path: Path):
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    (tmp_path / "chat.jsonl").write_text(f"{json.dumps(row)}\n" * 4, encoding="utf-8")
    with engine.client() as client:
        created = client.fine_tuning.jobs.create(
            training_file=str(tmp_path / "chat.jsonl"),
            model="gpt-3.5-turbo",
            hyperparameters={"n_epochs": 3},
        )
        return client.fine_tuning.jobs.wait(created.id, timeout=60)


def test_a_model_goes_with_its_checkpoints_and_then_its_job(run: Run, job, engine):
    with engine.client() as client:
        checkpoints = [
            one.fine_tuned_model_checkpoint
            for one in client.fine_tuning.jobs.checkpoints.list(job.id)
        ]
    others = [name for name in checkpoints if name != job.fine_tuned_model]
    assert others
    code, said = run(f"engine delete-job {job.id}")
    assert code == 1
    assert all(name in said for name in others)

    code, said = run(f"api models.delete {job.fine_tuned_model}")
    assert code == 0
    assert f"Deleted {job.fine_tuned_model}; " in said
    assert "bytes are free again" in said
    assert f"{len(others)} checkpoints of its job stay: " in said
    assert all(name in said for name in others)
    assert f"Its job {job.id} stays" in said

    code, said = run(f"api models.delete {others[0]} --checkpoints")
    assert code == 0
    assert all(f"Deleted {name};" in said for name in others)
    assert "stay:" not in said

    code, said = run(f"engine delete-job {job.id}")
    assert (code, "are free again" in said) == (0, True)
    assert not engine.home.job(job.id.removeprefix("ftjob-")).exists()
    assert "No such" in run(f"api fine_tuning.jobs.get {job.id}")[1]
    assert run(f"engine delete-job {job.id}")[0] == 1


def test_a_file_says_whether_its_content_went(run: Run, tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a ->", "completion": " b"}\n', encoding="utf-8")
    ids = [json.loads(run("api files.create -f a.jsonl --json")[1])["id"] for _ in range(2)]
    code, said = run(f"api files.delete {ids[0]}")
    assert (code, "its content stays, since another file has the same" in said) == (0, True)
    code, said = run(f"api files.delete {ids[1]}")
    assert (code, f"Deleted {ids[1]}; 39 bytes are free again." in said) == (0, True)


@pytest.fixture
def orphan(tmp_path: Path) -> Path:
    """A model's folder that no row names, in the state folder of no running engine."""
    folder = tmp_path / "home" / "models" / "nobody"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(2_000_000))
    return folder


def test_garbage_is_shown_before_it_is_removed(run: Run, orphan: Path):
    home = f"--home {shlex.quote(str(orphan.parents[1]))}"
    code, said = run(f"engine gc --dry-run {home}")
    assert code == 0
    assert "deleted models 1 2.0 MB" in said
    assert "Nothing was removed." in said
    assert orphan.exists()
    shown = json.loads(run(f"engine gc --dry-run --json {home}")[1])
    assert (shown["removed"], shown["places"], shown["bytes"]) == (False, 1, 2_000_000)

    code, said = run(f"engine du {home}")
    assert "fine-tuned models 2.0 MB tunesmith api models.delete MODEL" in said
    assert "of it `tunesmith engine gc` frees 2.0 MB" in said

    code, said = run(f"engine gc --yes {home}")
    assert (code, "Removed 1 files" in said, orphan.exists()) == (0, True, False)
    assert json.loads(run(f"engine gc --json {home}")[1])["places"] == 0


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_a_terminal_is_asked(orphan: Path):
    from terminal import Terminal

    command = [sys.executable, "-m", "tunesmith.cli", "engine", "gc"]
    for answer, stays in (("\n", True), ("y\n", False)):
        with Terminal([*command, "--home", str(orphan.parents[1])]) as terminal:
            terminal.wait_for("Remove this? [y/N]")
            terminal.press(answer)
            assert terminal.end() == 0
        assert orphan.exists() is stays
