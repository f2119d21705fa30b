"""The module-level style against a real engine: the guide's calls and the old tests' calls."""

import asyncio
import io
import json
import pickle

import pytest

import tunesmith.v0 as openai
from tunesmith import TunesmithError

ROWS = [
    {"prompt": f"I {word} number {number} ->", "completion": f" {label}"}
    for number in range(6)
    for word, label in (("love", "positive"), ("hate", "negative"))
]


@pytest.fixture
def v0(tiny_engine, monkeypatch):
    monkeypatch.setattr(openai, "api_base", tiny_engine.base_url)
    monkeypatch.setattr(openai, "api_key", "sk-old-style")
    return openai


@pytest.fixture
def training_file(v0, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    with path.open("rb") as handle:
        return v0.File.create(file=handle, purpose="fine-tune", user_provided_filename=path.name)


def test_the_legacy_api_from_upload_to_deletion(v0, training_file):
    job = v0.FineTune.create(training_file=training_file.id, model="ada", n_epochs=1)
    assert job["object"] == "fine-tune"
    events = list(v0.FineTune.stream_events(job.id))
    assert events[0].message == f"Created fine-tune: {job.id}"
    assert events[-1]["message"] == "Fine-tune succeeded"
    job = v0.FineTune.retrieve(id=job.id)
    assert job.status == "succeeded"
    assert job.id in [item.id for item in v0.FineTune.list().data]
    listed = v0.FineTune.list_events(id=job.id).data
    assert [event.message for event in listed] == [event.message for event in events]
    answer = v0.Completion.create(model=job.fine_tuned_model, prompt="I love it ->", max_tokens=1)
    assert answer["choices"][0]["text"] == answer.choices[0].text
    table = v0.File.download(job.result_files[0].id).decode()
    assert table.startswith("step,elapsed_tokens,elapsed_examples,training_loss")
    assert v0.Model.delete(job.fine_tuned_model).deleted
    with pytest.raises(v0.error.InvalidRequestError) as caught:
        v0.Completion.create(model=job.fine_tuned_model, prompt="I love it ->")
    assert caught.value.http_status == 404
    assert caught.value.code == "model_not_found"


def test_the_fine_tuning_jobs_api(v0, training_file):
    job = v0.FineTuningJob.create(training_file=training_file.id, model="babbage-002")
    assert v0.FineTuningJob.retrieve(job.id).id == job.id
    cancelled = v0.FineTuningJob.cancel(job.id)
    assert cancelled.status == "cancelled"
    assert job.id in [item.id for item in v0.FineTuningJob.auto_paging_iter(limit=1)]
    assert v0.FineTuningJob.list_events(job.id, limit=2).data
    with pytest.raises(v0.error.InvalidRequestError):
        v0.FineTuningJob.cancel(job.id)


def test_asyncio_has_the_same_calls(v0, training_file):
    async def calls():
        answer = await v0.Completion.acreate(prompt="hello", model="ada", max_tokens=2)
        stream = await v0.ChatCompletion.acreate(
            model="gpt-3.5-turbo",
            messages=[{"role": "user", "content": "Hello!"}],
            max_tokens=3,
            stream=True,
        )
        chunks = [chunk async for chunk in stream]
        found = await v0.File.afind_matching_files(
            training_file.filename, training_file.bytes, "fine-tune"
        )
        return answer, chunks, found

    answer, chunks, found = asyncio.run(calls())
    assert len(answer.choices) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert training_file.id in [file.id for file in found]


def test_what_the_old_sdks_own_tests_called(v0):
    text = json.dumps({"prompt": "test file data", "completion": "tada"})
    file = v0.File.create(file=io.StringIO(text), purpose="fine-tune")
    assert file.purpose == "fine-tune"
    assert "id" in file
    assert v0.File.retrieve(id=file.id).bytes == len(text)
    assert v0.File.wait_for_processing(file.id) == "processed"
    assert v0.File.delete(file.id).deleted
    hello = [{"role": "user", "content": "Hello!"}]
    chat = v0.ChatCompletion.create(model="gpt-3.5-turbo", messages=hello, n=5, max_tokens=2)
    assert len(chat.choices) == 5
    chunks = v0.ChatCompletion.create(
        model="gpt-3.5-turbo", messages=hello, stream=True, max_tokens=2
    )
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    prompts = ["This was a test", "This was another test"]
    assert len(v0.Completion.create(prompt=prompts, n=5, engine="ada", max_tokens=1).choices) == 10
    model = v0.Completion.create(prompt="This was a test", model="ada", max_tokens=1).model
    assert model.startswith("ada")
    assert v0.Completion.create(prompt="test", model="ada", request_timeout=10).choices
    with pytest.raises(v0.error.Timeout):
        v0.Completion.create(
            prompt="test" * 100, n=10, model="ada", max_tokens=100, request_timeout=0.001
        )


def test_what_the_old_sdks_own_tests_awaited(v0):
    async def calls():
        text = json.dumps({"prompt": "test file data", "completion": "tada"})
        file = await v0.File.acreate(file=io.StringIO(text), purpose="fine-tune")
        assert (await v0.File.aretrieve(id=file.id)).purpose == "fine-tune"
        prompts = ["This was a test", "This was another test"]
        many = await v0.Completion.acreate(prompt=prompts, n=5, engine="ada", max_tokens=1)
        assert len(many.choices) == 10
        with pytest.raises(v0.error.Timeout):
            await v0.Completion.acreate(
                prompt="test" * 100, n=10, model="ada", max_tokens=100, request_timeout=0.001
            )
        v0.aiosession.set(object())
        stream = await v0.Completion.acreate(
            prompt="test", model="ada", request_timeout=10, stream=True
        )
        assert len([part async for part in stream]) > 1

    asyncio.run(calls())


# The guide's two Python examples, word for word.
GUIDE = """
import tunesmith.v0 as openai
openai.Completion.create(
    model=FINE_TUNED_MODEL,
    prompt=YOUR_PROMPT)
openai.Model.delete(FINE_TUNED_MODEL)
"""


def test_the_guides_python_examples_word_for_word(v0, training_file):
    job = v0.FineTune.create(training_file=training_file.id, model="ada", n_epochs=1)
    list(v0.FineTune.stream_events(job.id))
    model = v0.FineTune.retrieve(job.id).fine_tuned_model
    exec(GUIDE, {"FINE_TUNED_MODEL": model, "YOUR_PROMPT": "I love it ->"})  # noqa: S102
    assert model not in [one.id for one in v0.Model.list().data]


def test_models(v0):
    names = [model.id for model in v0.Model.list().data]
    assert "tiny" in names
    assert v0.Engine.retrieve("tiny").id == "tiny"


def test_objects_are_dictionaries_with_attributes():
    value = openai.OpenAIObject(id="x", object="thing", nested=[openai.OpenAIObject(a=1)])
    assert value.nested[0].a == value["nested"][0]["a"] == 1
    assert value.to_dict_recursive() == {"id": "x", "object": "thing", "nested": [{"a": 1}]}
    assert json.loads(str(value)) == value
    assert repr(value).startswith("<OpenAIObject thing id=x> JSON:")
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes
    value.extra = 2
    assert value["extra"] == 2
    del value.extra
    with pytest.raises(AttributeError, match="no 'extra'; its fields are: id, object, nested"):
        _ = value.extra


def test_a_wrong_setting_says_what_to_do(v0, monkeypatch):
    monkeypatch.setattr(v0, "api_type", "azure")
    with pytest.raises(v0.error.InvalidAPIType, match="AzureClient"):
        v0.Model.list()
    monkeypatch.setattr(v0, "api_type", "open_ai")
    monkeypatch.setattr(v0, "api_key", None)
    for name in ("TUNESMITH_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(v0.error.AuthenticationError, match="TUNESMITH_API_KEY"):
        v0.Model.list(api_base="https://api.example.com/v1")


def test_no_server_is_a_connection_error(v0):
    with pytest.raises(v0.error.APIConnectionError):
        v0.Model.list(api_base="http://127.0.0.1:9/v1")


def test_a_key_file_is_read_for_each_call(v0, tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("sk-from-a-file\n", encoding="utf-8")
    monkeypatch.setattr(v0, "api_key_path", str(path))
    assert v0.Model.list().data


def test_errors_pickle_and_keep_the_answer(v0):
    with pytest.raises(v0.InvalidRequestError) as caught:
        v0.FineTune.retrieve("ft-unknown")
    error = caught.value
    assert isinstance(error, TunesmithError)
    assert error.error.message
    assert error.json_body["error"]["message"] in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), copy.http_status, copy.code) == (str(error), 404, error.code)
