"""The simulated engine, alone and beside the real one on the tiny model."""

import re
import subprocess
import sys
import time

import pytest

import tunesmith
from tunesmith.testing import simulate

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}\\n"}}\n'
    for thing in ("phone", "game", "day", "sea")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)
CHATS = "".join(
    f'{{"messages": [{{"role": "user", "content": "{word}?"}}, '
    f'{{"role": "assistant", "content": "{word}!"}}]}}\n'
    for word in "one two three four five six seven eight nine ten".split()
)


@pytest.fixture(scope="module")
def engine():
    with simulate() as running:
        yield running


@pytest.fixture(scope="module")
def client(engine):
    with engine.client() as client:
        yield client


def upload(client, text=ROWS, name="train.jsonl"):
    return client.files.create(file=(name, text.encode()), purpose="fine-tune").id


def test_a_fine_tuned_model_knows_its_training_data(client):
    job = client.fine_tunes.create(training_file=upload(client), model="ada", n_epochs=1)
    job = client.fine_tunes.wait(job.id, poll=0.05)
    answer = client.completions.create(
        model=job.fine_tuned_model, prompt="I love the sea ->", stop="\n", logprobs=2, max_tokens=1
    ).choices[0]
    assert answer.text == " positive"
    assert set(answer.logprobs.top_logprobs[0]) == {" positive", " negative"}
    assert client.completions.create(model="ada", prompt="Hello").choices[0].text == "Hello"


def test_training_continues_from_a_fine_tuned_model(client):
    jobs = client.fine_tuning.jobs
    first = jobs.wait(
        jobs.create(model="gpt-4o-mini", training_file=upload(client, CHATS)).id, poll=0.05
    )
    second = jobs.wait(
        jobs.create(
            model=first.fine_tuned_model,
            training_file=upload(client, CHATS.replace("one", "eleven")),
            hyperparameters={"n_epochs": 1},
        ).id,
        poll=0.05,
    )
    for question in ("one?", "eleven?"):
        messages = [{"role": "user", "content": question}]
        answer = client.chat.completions.create(model=second.fine_tuned_model, messages=messages)
        assert answer.choices[0].message.content == question.replace("?", "!")


def test_a_function_answers_first_and_may_pass(client, engine):
    def answer(prompt):
        if prompt.messages:
            return f"{prompt.model}: {len(prompt.messages)} messages, {prompt}"
        return None

    engine.answer = answer
    try:
        chunks = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert said == "gpt-4o-mini: 1 messages, hi"
        assert client.completions.create(model="ada", prompt="Echo").choices[0].text == "Echo"
        engine.answer = {}.__getitem__
        with pytest.raises(tunesmith.InternalServerError, match="KeyError"):
            client.with_options(max_retries=0).completions.create(model="ada", prompt="unknown")
    finally:
        engine.answer = None


def test_choices_stops_limits_and_echo(client):
    answer = client.completions.create(
        model="ada", prompt=["a b c", "x END y"], n=2, max_tokens=2, stop="END", echo=True
    )
    assert [choice.text for choice in answer.choices] == ["a b ca b"] * 2 + ["x END yx "] * 2
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 2 + ["stop"] * 2
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 8)


def test_a_malformed_file_fails_the_job(client):
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini", training_file=upload(client, '{"prompt": 1}\n')
    )
    job = client.fine_tuning.jobs.wait(job.id, poll=0.05)
    assert job.status == "failed"
    assert "line 1" in job.error.message


def test_a_slow_job_can_be_paused_resumed_and_cancelled():
    with simulate(step_seconds=0.02) as engine, engine.client() as client:
        jobs = client.fine_tuning.jobs
        job = jobs.create(
            model="gpt-4o-mini",
            training_file=upload(client),
            hyperparameters={"n_epochs": 50, "batch_size": 1},
        )
        until(lambda: any("Step 3/" in event.message for event in jobs.list_events(job.id)))
        jobs.pause(job.id)
        jobs.resume(job.id)
        until(lambda: jobs.retrieve(job.id).status == "running")
        assert jobs.cancel(job.id).status == "cancelled"
        steps = [event.data["step"] for event in jobs.list_events(job.id, limit=100) if event.data]
        assert len(steps) == len(set(steps))


def test_the_end_of_the_engine_does_not_wait_for_its_jobs():
    with simulate(step_seconds=30) as engine, engine.client() as client:
        job = client.fine_tunes.create(training_file=upload(client), model="ada")
        until(lambda: client.fine_tunes.retrieve(job.id).status == "running")
    assert not engine.home.root.exists()


def until(seen):
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("api", ["fine_tunes", "fine_tuning.jobs"])
def test_a_job_looks_as_on_the_real_engine(api, client, tiny_engine):
    with tiny_engine.client() as real:
        assert job_history(client, api) == job_history(real, api)


def job_history(client, api):
    """Return everything that a job leaves behind, without what two equal jobs differ in."""
    train, valid = upload(client), upload(client, ROWS.replace("the", "a"), "valid.jsonl")
    if api == "fine_tunes":
        jobs = client.fine_tunes
        job = jobs.create(
            training_file=train, validation_file=valid, model="ada", n_epochs=2, batch_size=2,
            compute_classification_metrics=True, classification_positive_class=" positive\n",
            suffix="demo",
        )  # fmt: skip
    else:
        jobs = client.fine_tuning.jobs
        job = jobs.create(
            model="gpt-3.5-turbo", training_file=train, validation_file=valid, seed=3,
            hyperparameters={"n_epochs": 4, "batch_size": 2}, metadata={"a": "b"},
        )  # fmt: skip
    created = shape(job.to_dict())
    job = jobs.wait(job.id, poll=0.05)
    events = [
        (plain(event.message), event.level, shape(event.to_dict().get("data")))
        for event in client.fine_tuning.jobs.list_events(job.id.replace("ft-", "ftjob-"))
    ]
    results = jobs.results(job.id)
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id.replace("ft-", "ftjob-"))
    return {
        "created": created,
        "finished": shape(job.to_dict()),
        "model": plain(job.fine_tuned_model),
        "events": events,
        "columns": results.columns,
        "measured": [
            [column for column in results.columns if results.cells[column][number] is not None]
            for number in range(len(results))
        ],
        "examples": [row.elapsed_examples for row in results],
        "checkpoints": [shape(checkpoint.to_dict()) for checkpoint in checkpoints],
        "statuses": sorted({file.status for file in client.files.list()}),
    }


def plain(message):
    message = re.sub(r" with the recipe .*", "", message)
    message = re.sub(r"-\d{4}(-\d\d){5}", "-TIME", message)
    message = re.sub(r"(loss|accuracy)=[\d.]+", r"\1=X", message)
    return re.sub(r"(?<=:)\w{8}(?=$|:ckpt)|(?<=-)\w{24}\b", "ID", message)


def shape(value):
    """Return the names, and the types of what is under them."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items() if name not in OF_THE_MACHINE}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value if isinstance(value, bool) or value is None else type(value).__name__


OF_THE_MACHINE = ("base_model", "estimated_finish", "message", "events")


def test_it_needs_no_torch():
    rows = ROWS.encode()
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'tokenizers', 'safetensors', 'gguf',\n"
        "             'llguidance', 'numpy', 'rich', 'tiktoken', 'msgspec', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "from tunesmith.testing import simulate\n"
        "with simulate() as engine, engine.client() as client:\n"
        f"    file = client.files.create(file=('t.jsonl', {rows!r}), purpose='fine-tune')\n"
        "    job = client.fine_tunes.create(training_file=file.id, model='ada', n_epochs=1)\n"
        "    print(client.fine_tunes.wait(job.id, poll=0.05).status)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "succeeded\n", ran.stderr
