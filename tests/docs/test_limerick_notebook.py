"""The chat-model notebook's calls, cell by cell, with `Client` in place of the official client."""

import contextlib
import io
import re
import shutil
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"

UPLOAD = """
from tunesmith import Client as OpenAI
client = OpenAI()
ft_file = client.files.create(file=open("./training-data.jsonl", "rb"), purpose="fine-tune")
print(ft_file)
print("Training File ID: " + ft_file.id)
"""
CREATE = """
client = OpenAI()
ft_filejob = client.fine_tuning.jobs.create(training_file=ft_file.id, model="gpt-3.5-turbo")
print(ft_filejob)
print("Fine-tuning Job ID: " + ft_filejob.id)
"""
LIST = """
client = OpenAI()
jobs = client.fine_tuning.jobs.list(limit=10)
client.fine_tuning.jobs.retrieve(ft_filejob.id)
print(client.fine_tuning.jobs.list_events(fine_tuning_job_id=ft_filejob.id, limit=10))
"""
STATUS = """
client = OpenAI()
response = client.fine_tuning.jobs.retrieve(ft_filejob.id)
print("Job ID:", response.id)
print("Status:", response.status)
print("Trained Tokens:", response.trained_tokens)
"""
EVENTS = """
response = client.fine_tuning.jobs.list_events(ft_filejob.id)
events = response.data
events.reverse()
for event in events:
    print(event.message)
"""
MODEL = """
response = client.fine_tuning.jobs.retrieve(ft_filejob.id)
fine_tuned_model_id = response.fine_tuned_model
print("Fine-tuned Model ID:", fine_tuned_model_id)
"""
ASK = """
client = OpenAI()
completion = client.chat.completions.create(
    model=fine_tuned_model_id,
    messages=[
        {"role": "system", "content": "Pip is a friendly guide to the kitchen who answers with a limerick"},
        {"role": "user", "content": "Tell me about cinnamon"},
    ],
)
print(completion.choices[0].message)
"""  # noqa: E501 - a cell as people write it


@pytest.fixture
def run_cell(tmp_path, monkeypatch, tiny_engine):
    """Run a cell in the notebook's one namespace and return what it prints."""
    shutil.copy(EXAMPLES / "limericks.jsonl", tmp_path / "training-data.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", tiny_engine.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    namespace = {}
    clients = []

    def run(cell):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(cell, namespace)  # noqa: S102 - the cells above
        clients.append(namespace["client"])
        return printed.getvalue()

    yield run
    for client in clients:
        client.close()


# The notebook opens its file and leaves the closing to the interpreter.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_notebook_s_cells_run_in_order(run_cell):
    uploaded = run_cell(UPLOAD)
    assert re.search(r"FileObject\(id='file-\w+', bytes=\d+, created_at=\d+", uploaded)
    assert "filename='training-data.jsonl'" in uploaded
    assert "purpose='fine-tune'" in uploaded

    created = run_cell(CREATE)
    assert re.search(r"FineTuningJob\(id='ftjob-\w+'", created)
    assert "status='validating_files'" in created
    assert "n_epochs='auto'" in created
    assert "result_files=[]" in created

    listed = run_cell(LIST)
    assert "Created fine-tuning job: ftjob-" in listed

    status = run_cell(STATUS)
    assert re.search(r"Job ID: ftjob-\w+\nStatus: \w+\nTrained Tokens: ", status)

    deadline = time.monotonic() + 60
    while "The job has successfully completed" not in (events := run_cell(EVENTS)):
        assert "failed" not in events
        assert time.monotonic() < deadline, events
        time.sleep(0.2)
    lines = events.splitlines()
    assert lines[-1] == "The job has successfully completed"
    assert re.fullmatch(r"New fine-tuned model created: ft:gpt-3.5-turbo.*:\S+", lines[-2])
    assert any(re.fullmatch(r"Step \d+/\d+: training loss=\d+\.\d\d", line) for line in lines)
    assert any(
        re.match(r"Checkpoint created at step \d+ with Snapshot ID: ft:", line) for line in lines
    )

    model = run_cell(MODEL)
    assert re.fullmatch(r"Fine-tuned Model ID: ft:gpt-3.5-turbo\S+\n", model)

    message = run_cell(ASK)
    assert re.match(r"ChatCompletionMessage\(content=", message)
    assert "role='assistant'" in message
