"""`tunesmith migrate record` and `compare`, as people type them, against a real socket."""

import json
import shlex

import pytest

from http_stub import Stub, answer
from recorded import chat
from tunesmith.cli import main
from tunesmith.migrate.archive import folder_name


@pytest.fixture
def service(monkeypatch, tmp_path):
    """A service whose model `old` says the feeling, and whose model `new` errs on hatred."""

    def handle(request):
        text = request.json["messages"][-1]["content"]
        label = "positive" if "love" in text else "negative"
        return answer(
            chat("neutral" if request.json["model"] == "bad" and "hate" in text else label)
        )

    server = Stub()
    server.handle = handle
    monkeypatch.setenv("TUNESMITH_BASE_URL", server.url)
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    monkeypatch.chdir(tmp_path)
    yield server
    server.close()


@pytest.fixture
def run(capsys, service, validation_file):  # noqa: ARG001 - they are there
    def command(line):
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


RECORD = "migrate record -m old --validation valid.jsonl --purpose evaluation --yes"


def test_record_then_compare_then_require(run, tmp_path):
    code, out, err = run(f"{RECORD} --twice 0.5 --input-price 1 --output-price 2")
    assert code == 0
    assert "30 requests now" in out
    assert "30 requests to send" in err
    old = f"recordings/{folder_name('old')}"
    requirement = '--require "agreement>=0.8"'
    code, out, err = run(
        f"migrate compare {old} --model good {requirement} --html r.html --markdown r.md"
    )
    assert (code, "met. The lower bound" in err) == (0, True)
    assert "agreement" in out
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "r.md").read_text().startswith("# good against old")
    code, _, err = run(f"migrate compare {old} --model bad {requirement} -O recordings")
    assert (code, "not met" in err) == (4, True)
    code, out, _ = run(f"migrate compare {old} --with recordings/{folder_name('bad')} --json")
    assert code == 0
    assert json.loads(out)["measures"][0]["new"]["value"] == 0.5


def test_the_new_model_is_asked_as_the_old_one_was(service, run):
    run(f"{RECORD} --set seed=7 --set store= --twice 0")
    run(f"migrate compare recordings/{folder_name('old')} --model new")
    old, new = ([r.json for r in service.requests if r.json["model"] == m] for m in ("old", "new"))
    assert len(old) == len(new) == 20
    for body in new:
        body["model"] = "old"
    key = lambda body: json.dumps(body, sort_keys=True)  # noqa: E731
    assert sorted(old, key=key) == sorted(new, key=key)
    assert old[0]["seed"] == 7
    assert "store" not in old[0]


def test_the_estimate_sends_nothing(service, run):
    code, _, err = run(f"{RECORD} --estimate --input-price 0.3 --output-price 1.2")
    assert code == 0
    assert "at your prices" in err
    assert not service.requests


def test_without_a_purpose_or_leave_nothing_is_sent_where_nobody_can_be_asked(service, run):
    code, _, err = run("migrate record -m old --validation valid.jsonl --yes")
    assert (code, "--purpose evaluation" in err) == (1, True)
    code, _, err = run("migrate record -m old --validation valid.jsonl --purpose training")
    assert (code, "--yes" in err) == (1, True)
    assert not service.requests


def test_graders_are_read_from_files_and_required(run, tmp_path):
    grader = {"type": "string_check", "name": "right", "input": "{{ sample.output_text }}",
              "reference": "{{ item.reference }}", "operation": "eq"}  # fmt: skip
    (tmp_path / "g.json").write_text(json.dumps([grader]))
    run(f"{RECORD} --twice 0")
    old = f"recordings/{folder_name('old')}"
    line = f'migrate compare {old} --model bad --grader g.json --require "right.difference>=-0.02"'
    code, _, err = run(line)
    assert (code, "right.difference>=-0.02: not met" in err) == (4, True)
    (tmp_path / "g.json").write_text("{")
    code, _, err = run(line)
    assert (code, "g.json is no JSON" in err) == (1, True)


def test_wrong_words_are_errors(run):
    assert run("migrate record -m old --purpose evaluation --yes")[0] == 1
    run(f"{RECORD} --twice 0")
    code, _, err = run(f'migrate compare recordings/{folder_name("old")} --model x --require "a>b"')
    assert (code, "is no requirement" in err) == (1, True)
    code, _, err = run("migrate compare nowhere --model x")
    assert (code, "is no recording" in err) == (1, True)
