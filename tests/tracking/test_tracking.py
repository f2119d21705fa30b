"""Finished jobs as runs of real trackers, without a network; each needs its package."""

import json
import os
import struct
import subprocess
import sys

import pytest

from tunesmith.testing import simulate
from tunesmith.tracking import find_jobs, open_tracker, read_facts, sync

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}"}}\n'
    for thing in ("phone", "game", "day", "sea")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)
CLASSES = {
    "compute_classification_metrics": True,
    "classification_positive_class": " positive",
}


@pytest.fixture(scope="module")
def client():
    with simulate() as engine, engine.client() as client:
        yield client


@pytest.fixture(scope="module")
def job(client):
    """A fine-tune with everything: validation data and classification metrics."""
    files = [
        client.files.create(file=(name, ROWS.encode()), purpose="fine-tune").id
        for name in ("train.jsonl", "valid.jsonl")
    ]
    failed = client.files.create(file=("no.jsonl", b'{"prompt": 1}\n'), purpose="fine-tune").id
    client.fine_tunes.wait(
        client.fine_tunes.create(training_file=failed, model="ada").id, poll=0.05
    )
    job = client.fine_tunes.create(
        training_file=files[0], validation_file=files[1], model="ada", n_epochs=2, batch_size=2,
        suffix="demo", **CLASSES,
    )  # fmt: skip
    return client.fine_tunes.wait(job.id, poll=0.05)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder for what trackers write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def test_the_facts_of_a_job(client, job):
    facts = read_facts(client, job.id)
    assert facts.config == {
        "model": "ada", "n_epochs": 2, "batch_size": 2, "learning_rate_multiplier": 0.05,
        "prompt_loss_weight": 0.01, "training_file": "train.jsonl",
        "validation_file": "valid.jsonl", **CLASSES,
    }  # fmt: skip
    history = list(facts.history())
    assert [step for step, _ in history] == list(range(1, 9))
    assert history[0][1]["elapsed_examples"] == 2
    assert "classification/auroc" not in history[0][1]
    assert facts.summary["status"] == "succeeded"
    assert facts.summary["fine_tuned_model"] == facts.name == job.fine_tuned_model
    assert facts.summary["training_loss"] == history[-1][1]["training_loss"]
    assert facts.summary["classification/auroc"] == history[-1][1]["classification/auroc"]
    assert [file.role for file in facts.files] == ["training", "validation", "results"]


def test_the_facts_are_the_same_in_both_apis(client, job):
    first, second = (read_facts(client, name) for name in (job.id, job.id.replace("ft-", "ftjob-")))
    assert list(first.history()) == list(second.history())
    assert first.files == second.files
    assert first.config.items() >= {"n_epochs": 2, "batch_size": 2}.items()


def test_a_deleted_file_is_left_out(client):
    name = client.files.create(file=("gone.jsonl", ROWS.encode()), purpose="fine-tune").id
    other = client.fine_tunes.create(training_file=name, model="ada", n_epochs=1)
    client.fine_tunes.wait(other.id, poll=0.05)
    client.files.delete(name)
    assert [file.role for file in read_facts(client, other.id).files] == ["results"]
    assert find_jobs(client, 1)[0].id == other.id


class Notes:
    """A tracker that keeps what it is told."""

    def __init__(self):
        self.runs = {}

    def has(self, job_id):
        return job_id in self.runs

    def write(self, facts, files):
        self.runs[facts.id] = [(file.name, path.read_bytes()) for file, path in files]
        return "noted"


def test_each_job_is_written_once_unless_forced(client, job):
    tracker = Notes()
    actions = {outcome.job: outcome.action for outcome in sync(client, tracker)}
    assert actions[job.id] == "written"
    assert "skipped" in actions.values()
    assert tracker.runs[job.id][0] == ("train.jsonl", ROWS.encode())
    assert [outcome.action for outcome in sync(client, tracker, job.id)] == ["present"]
    assert [outcome.action for outcome in sync(client, tracker, job.id, force=True)] == ["written"]


def test_wandb_offline(client, job, folder):
    pytest.importorskip("wandb")
    assert actions("wandb", client, job) == ["written", "present"]
    (run,) = folder.glob(f"wandb/offline-run-*-{job.id}")
    records = wandb_records(next(run.glob("*.wandb")))
    facts = read_facts(client, job.id)
    assert records["run"][0].display_name == job.fine_tuned_model
    config = {item.key: json.loads(item.value_json) for item in records["run"][0].config.update}
    assert config.items() >= facts.config.items()
    history = [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item}
        for row in records["history"]
    ]
    assert [row["_step"] for row in history] == list(range(1, 9))
    assert history[0]["training_loss"] == dict(facts.history())[1]["training_loss"]
    summary = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for record in records["summary"]
        for item in record.update
    }
    assert summary["status"] == "succeeded"
    assert summary["fine_tuned_model"] == job.fine_tuned_model
    artifacts = {record.type: record for record in records["artifact"]}
    assert set(artifacts) == {"training", "validation", "results"}
    assert artifacts["training"].manifest.contents[0].size == len(ROWS)


def wandb_records(path):
    """Return a run's records by kind. The file is a LevelDB log of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def log_records(log, block=32768, whole=1, last=4):
    """Yield the records of a LevelDB log: parts of at most a block, each after its header."""
    assert log.startswith(b":W&B")
    place, gathered = 7, b""
    while place < len(log):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        gathered += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in {whole, last}:
            yield gathered
            gathered = b""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its use of SQLAlchemy
@pytest.mark.usefixtures("folder")
def test_mlflow(client, job):
    mlflow = pytest.importorskip("mlflow")
    assert actions("mlflow", client, job) == ["written", "present"]
    reader = mlflow.tracking.MlflowClient()
    experiment = reader.get_experiment_by_name("tunesmith")
    (run,) = reader.search_runs([experiment.experiment_id])
    assert run.info.run_name == job.fine_tuned_model
    assert run.data.params["n_epochs"] == "2"
    losses = reader.get_metric_history(run.info.run_id, "training_loss")
    facts = read_facts(client, job.id)
    assert {one.step: one.value for one in losses} == {
        step: row["training_loss"] for step, row in facts.history()
    }
    assert run.data.tags["fine_tuned_model"] == job.fine_tuned_model
    kept = [item.path for item in reader.list_artifacts(run.info.run_id)]
    assert kept == ["results", "training", "validation"]


def test_trackio(client, job, folder):
    pytest.importorskip("trackio")
    # trackio decides where it writes when it is imported: a process of its own.
    environment = os.environ | {"TRACKIO_DIR": str(folder / "trackio")}
    environment["TUNESMITH_BASE_URL"] = str(client.base_url)
    command = [sys.executable, "-m", "tunesmith.cli", "trackio", "sync", "-i", job.id, "--json"]
    for action in ("written", "present"):
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(ran.stdout)[0]["action"] == action
    code = (
        "import json, sys, trackio\n"
        "from trackio import SQLiteStorage\n"
        "(run,) = trackio.Api().runs('tunesmith')\n"
        "logs = SQLiteStorage.get_logs('tunesmith', run.name, run_id=run.id)\n"
        "print(json.dumps([run.name, run.config, logs]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    name, config, logs = json.loads(ran.stdout)
    facts = read_facts(client, job.id)
    assert name == job.id
    assert config.items() >= (facts.config | {"status": "succeeded"}).items()
    assert [row["training_loss"] for row in logs] == [
        row["training_loss"] for _, row in facts.history()
    ]


def actions(kind, client, job):
    found = []
    for _ in range(2):
        with open_tracker(kind) as tracker:
            found += [outcome.action for outcome in sync(client, tracker, job.id)]
    return found
