"""Early stopping and `keep_best` on the command line, in the API's body, against a real engine."""

import json
import shlex

import pytest

from tunesmith import BadRequestError
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


@pytest.fixture
def files(tmp_path, monkeypatch, tiny_engine):
    monkeypatch.setenv("TUNESMITH_BASE_URL", tiny_engine.base_url)
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text(ROWS)
    swapped = ROWS.replace("positive", "?").replace("negative", "positive").replace("?", "negative")
    (tmp_path / "valid.jsonl").write_text(swapped)


@pytest.mark.usefixtures("files")
def test_a_job_ends_early_and_keeps_its_best_epoch(capsys, tiny_engine):
    """What is learned is the opposite of what is validated, so the loss rises at some epoch."""
    line = (
        "api fine_tuning.jobs.create -t train.jsonl -v valid.jsonl -m tiny --n_epochs 40 "
        "--batch_size 1 --seed 1 --learning_rate_multiplier 4 --early_stopping 1 --keep_best"
    )
    assert main(shlex.split(line)) == 0
    capsys.readouterr()
    with tiny_engine.client() as client:
        job = next(iter(client.fine_tuning.jobs.list(limit=1)))
        assert job.status == "succeeded"
        messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
        ended = [text for text in messages if text.startswith("Ended after epoch")]
        kept = [text for text in messages if text.startswith("The model is that of epoch")]
        assert len(ended) == len(kept) == 1, messages
        answer = client.completions.create(model=job.fine_tuned_model, prompt="I love this ->")
        assert answer.choices


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("option", [{"early_stopping": 1}, {"keep_best": True}])
@pytest.mark.parametrize("api", ["fine_tunes", "jobs"])
def test_without_a_validation_file_the_request_is_refused(tiny_engine, option, api):
    with tiny_engine.client() as client:
        create = client.fine_tunes.create if api == "fine_tunes" else client.fine_tuning.jobs.create
        with pytest.raises(BadRequestError, match=f"{next(iter(option))} compares") as caught:
            create(model="tiny", training_file="train.jsonl", extra_body=option)
        assert caught.value.param == "validation_file"
        with pytest.raises(BadRequestError, match="early_stopping"):
            create(model="tiny", training_file="train.jsonl", extra_body={"early_stopping": 0})


@pytest.mark.usefixtures("files")
def test_experts_are_asked_for_by_option_and_refused_where_there_are_none(capsys):
    line = "api fine_tuning.jobs.create -t train.jsonl -m tiny --train_experts"
    assert main(shlex.split(line)) == 1
    assert "`train_experts` could put adapters on" in capsys.readouterr().err
