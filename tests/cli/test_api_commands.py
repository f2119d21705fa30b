"""The `api` commands against a real engine with a tiny model."""

import functools
import http.server
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tunesmith.cli import main

ROWS = "".join(
    json.dumps({"prompt": f"{text} ->", "completion": completion}) + "\n"
    for text, completion in [
        ("I love this phone", " positive"),
        ("I hate this phone", " negative"),
        ("what a great day", " positive"),
        ("what an awful day", " negative"),
    ]
)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path, tiny_engine):
    monkeypatch.setenv("TUNESMITH_BASE_URL", tiny_engine.base_url)
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text(ROWS)


@pytest.fixture
def run(capsys):
    """Run a command line in this process; return its exit code, stdout and stderr."""

    def command(line):
        code = main(shlex.split(line))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture(scope="session")
def finished(tiny_engine, tmp_path_factory):
    """A fine-tune that has succeeded."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "train.jsonl").write_text(ROWS)
    (folder / "valid.jsonl").write_text(ROWS.replace("phone", "book"))
    with tiny_engine.client() as client:
        job = client.fine_tunes.create(
            training_file=folder / "train.jsonl",
            validation_file=folder / "valid.jsonl",
            model="ada",
            n_epochs=2,
            batch_size=2,
            compute_classification_metrics=True,
            classification_n_classes=2,
        )
        job = client.fine_tunes.wait(job.id, timeout=600, poll=0.2)
    assert job.status == "succeeded", job.events
    return job


def test_files_live_from_upload_to_deletion(run, tmp_path):
    (tmp_path / "café.jsonl").write_text(ROWS)
    code, out, _ = run("api files.create -f café.jsonl --json")
    file = json.loads(out)
    assert (code, file["filename"], file["bytes"]) == (0, "café.jsonl", len(ROWS))
    assert file["id"] in run("api files.list")[1]
    assert run(f"api files.get -i {file['id']}")[1].splitlines()[0].split() == ["id", file["id"]]
    assert run(f"api files.content -i {file['id']}")[1] == ROWS
    assert run(f"api files.content -i {file['id']} -O copy.jsonl")[0] == 0
    assert (tmp_path / "copy.jsonl").read_text() == ROWS
    assert json.loads(run(f"api files.delete -i {file['id']} --json")[1])["deleted"]
    assert file["id"] not in run("api files.list")[1]


def test_create_follows_and_says_how_to_go_on(run):
    code, out, err = run("api fine_tunes.create -t train.jsonl -m ada --n_epochs 1 --suffix demo")
    assert code == 0, out + err
    job_id = re.search(r"Created fine-tune (ft-\w+)", err)[1]
    assert re.match(r"\[\d\d:\d\d:\d\d\] Created fine-tune: ft-", out)
    assert "Fine-tune succeeded" in out
    assert re.search(rf"Job {job_id} succeeded. The model is ada:ft-local:demo-\d{{4}}", out)
    assert f"api fine_tunes.results -i {job_id}" in out
    assert "\x1b" not in out
    # Following it again prints the same events, once each.
    again = run(f"api fine_tunes.follow -i {job_id}")[1]
    assert again.splitlines()[:3] == out.splitlines()[:3]


def test_an_identical_file_is_used_again(run):
    first = run("api fine_tunes.create -t train.jsonl -m ada --no_follow --json")
    second = run("api fine_tunes.create -t train.jsonl -m ada --no_follow --json")
    assert "already holds train.jsonl" in second[2]
    jobs = [json.loads(out) for _, out, _ in (first, second)]
    assert jobs[0]["training_files"] == jobs[1]["training_files"]
    for job in jobs:
        code, out, err = run(f"api fine_tunes.cancel {job['id']} --json")
        if code:  # on a busy machine it may have ended already
            assert "succeeded" in err
        else:
            assert json.loads(out)["id"] == job["id"]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    """A web server that gives the files of a folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "from_web.jsonl").write_text(ROWS)
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_training_data_may_be_a_url(run, web):
    created = run(
        f"api fine_tunes.create -t {web}/from_web.jsonl -m ada --no_follow --json --n_epochs 1"
    )
    job = json.loads(created[1])
    assert job["training_files"][0]["filename"] == "from_web.jsonl"
    run(f"api fine_tunes.cancel -i {job['id']}")
    code, _, err = run(f"api fine_tunes.create -t {web}/missing.jsonl")
    assert (code, "404" in err) == (1, True)


def test_follow_as_json_is_one_object_a_line(run, finished):
    code, out, _ = run(f"api fine_tunes.follow -i {finished.id} --json")
    *events, job = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {event["object"] for event in events} == {"fine-tune-event"}
    assert (job["id"], job["status"]) == (finished.id, "succeeded")


def test_jobs_are_listed_and_shown(run, finished):
    table = run("api fine_tunes.list")[1]
    assert re.search(rf"{finished.id}\s+succeeded\s+ada\s+{finished.fine_tuned_model}", table)
    assert json.loads(run(f"api fine_tunes.get -i {finished.id} --json")[1])["id"] == finished.id
    assert "Fine-tune succeeded" in run(f"api fine_tunes.events -i {finished.id}")[1]


def test_results_are_printed_summed_up_and_drawn(run, finished, tmp_path):
    results = f"api fine_tunes.results -i {finished.id}"
    assert run(results)[1].startswith("step,elapsed_tokens,elapsed_examples,training_loss,")
    assert "4 steps, 8 examples" in run(f"{results} --summary")[1]
    assert json.loads(run(f"{results} --summary --json")[1])["steps"] == 4
    assert json.loads(run(f"{results} --json")[1])[0]["step"] == 1
    assert run(f"{results} --plot curves.png")[0] == 0
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_completions(run, finished):
    ask = f"api completions.create -m {finished.fine_tuned_model} -p day\\n-> -M 2 -t 0"
    code, out, _ = run(ask)
    assert code == 0
    assert run(f"{ask} --stream")[1] == out
    answer = json.loads(run(f"{ask} --json --logprobs 2 -n 2 --stop \\n")[1])
    assert len(answer["choices"]) == 2
    assert answer["model"] == finished.fine_tuned_model
    assert "== answer 2" in run(f"{ask} -n 2")[1]


def test_chat_completions(run):
    ask = "api chat.completions.create -m gpt-3.5-turbo -g user Hello -M 3 -t 0"
    code, out, _ = run(ask)
    assert code == 0
    assert run(f"{ask} --stream")[1] == out
    assert json.loads(run(f"{ask} --json")[1])["choices"][0]["message"]["role"] == "assistant"


def test_models_are_listed_and_shown(run, finished):
    assert finished.fine_tuned_model in run("api models.list")[1]
    assert json.loads(run("api models.get -i ada --json")[1])["id"] == "ada"


def test_the_newest_model_is_named_without_another_program(run, finished):
    newest = run("api models.list --fine_tuned --ids --limit 1")[1].strip()
    assert newest
    assert newest in run("api models.list --fine_tuned")[1]
    ids = run("api models.list --fine_tuned --ids")[1].splitlines()
    assert finished.fine_tuned_model in ids
    assert ids[0] == newest
    assert "ada" not in ids
    assert "ada" in run("api models.list --ids")[1].splitlines()


@pytest.mark.parametrize("group", ["fine_tunes", "fine_tuning.jobs", "files"])
def test_lists_print_ids_alone(run, finished, group):
    ids = run(f"api {group}.list --ids")[1].splitlines()
    assert ids == [one["id"] for one in json.loads(run(f"api {group}.list --json")[1])]
    assert run(f"api {group}.list --ids --limit 1")[1] == f"{ids[0]}\n"
    assert group != "fine_tunes" or finished.id in ids


def test_the_second_api_has_the_same_commands(run):
    created = run(
        "api fine_tuning.job.create -t train.jsonl -m gpt-3.5-turbo --n_epochs 1 --seed 3"
    )
    assert created[0] == 0, created
    job_id = re.search(r"Created job (ftjob-\w+)", created[2])[1]
    assert "The job has successfully completed" in created[1]
    assert job_id in run("api fine_tuning.jobs.list --limit 1")[1]
    assert job_id in run("api fine_tuning.jobs.list --status succeeded --limit 1")[1]
    assert run("api fine_tuning.jobs.list --status paused")[1] == "None.\n"
    shown = run(f"api fine_tuning.jobs.get {job_id}")[1]
    assert re.search(r"^created_at +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", shown, re.MULTILINE)
    assert json.loads(run(f"api fine_tuning.jobs.get -i {job_id} --json")[1])["seed"] == 3
    events = run(f"api fine_tuning.jobs.events -i {job_id}")[1].splitlines()
    assert "Created fine-tuning job" in events[1]
    assert "successfully completed" in events[-1]
    assert "ckpt-step" in run(f"api fine_tuning.jobs.checkpoints -i {job_id}")[1]
    assert run(f"api fine_tuning.jobs.results -i {job_id}")[1].startswith("step,")


def test_a_broken_line_fails_the_job_with_its_number(run, tmp_path):
    lines = ROWS.splitlines() * 2
    lines[6] = '{"prompt": "unfinished'
    (tmp_path / "broken.jsonl").write_text("\n".join(lines) + "\n")
    code, out, _ = run("api fine_tuning.jobs.create -t broken.jsonl -m gpt-3.5-turbo")
    assert code == 3
    assert re.search(r"failed: .*line 7", out, re.IGNORECASE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("api fine_tunes.get -i ft-nothing", "ft-nothing"),
        ("api completions.create -m nothing -p hello", "nothing"),
        ("api fine_tunes.create -t missing.jsonl", "no file 'missing.jsonl'"),
        ("api fine_tunes.create -t .", "is a folder"),
        ("api fine_tunes.create -t train.jsonl -m nothing", "nothing"),
        ("-b http://127.0.0.1:9/v1 api models.list", "127.0.0.1:9"),
        ("-b nowhere api models.list", "nowhere"),
        ("api files.create -f missing.jsonl", "missing.jsonl"),
    ],
)
def test_errors_are_one_paragraph_without_a_traceback(run, line, message):
    code, out, err = run(line)
    assert (code, out) == (1, "")
    assert "Error: " in err
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
    assert "\n\n" not in err


def read_until(descriptor, pattern, seconds=300):
    """Read from a terminal until it shows the pattern."""
    shown = ""
    deadline = time.monotonic() + seconds
    while not re.search(pattern, shown):
        assert time.monotonic() < deadline, shown
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                shown += os.read(descriptor, 65536).decode()
            except OSError:  # the other side has closed the terminal
                break
    return shown


def test_on_a_terminal_a_bar_shows_progress_and_ctrl_c_leaves_the_job_running(run):
    """On a real terminal: a progress bar, then Ctrl-C, then how to continue."""
    # Long enough that the job cannot end before the Ctrl-C arrives.
    rows = "".join(f'{{"prompt": "{n} ->", "completion": " {n}"}}\n' for n in range(200))
    Path("long.jsonl").write_text(rows, encoding="utf-8")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tunesmith.cli", "api", "fine_tunes.create", "-t", "long.jsonl",
         "-m", "ada", "--n_epochs", "50", "--batch_size", "1", "--no_check_if_files_exist"],
        stdin=child, stdout=child, stderr=child, start_new_session=True,
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(child)
    shown = read_until(parent, r"(step|epoch) \d+/\d+")
    process.send_signal(signal.SIGINT)
    shown += read_until(parent, r"fine_tunes.cancel -i ft-\w+")
    assert process.wait(timeout=300) == 130
    os.close(parent)
    assert "\x1b[" in shown
    job_id = re.search(r"fine_tunes.follow -i (ft-\w+)", shown)[1]
    assert "continues on the server" in shown
    assert "Traceback" not in shown
    status = json.loads(run(f"api fine_tunes.get -i {job_id} --json")[1])["status"]
    assert status in ("running", "succeeded")
    run(f"api fine_tunes.cancel -i {job_id}")
