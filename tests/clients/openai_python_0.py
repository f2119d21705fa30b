"""The legacy API with openai-python 0.28.1, the library and its command line.

Usage: python openai_python_0.py BASE_URL TRAINING_FILE
"""

import os
import subprocess
import sys
from pathlib import Path

import openai

openai.api_base = sys.argv[1]
openai.api_key = "any"
path = Path(sys.argv[2]).absolute()

uploaded = openai.File.create(
    file=path.open("rb"), purpose="fine-tune", user_provided_filename=path.name
)
assert uploaded["status"] == "processed"
assert openai.File.download(uploaded["id"]) == path.read_bytes()
fine_tune = openai.FineTune.create(
    training_file=uploaded["id"], model="ada", n_epochs=2, suffix="old client"
)
events = list(openai.FineTune.stream_events(fine_tune["id"]))
assert events[0]["message"] == f"Created fine-tune: {fine_tune['id']}"
assert events[-1]["message"] == "Fine-tune succeeded", events[-1]
listed = openai.FineTune.list_events(fine_tune["id"])["data"]
assert [event["message"] for event in listed] == [event["message"] for event in events]
fine_tune = openai.FineTune.retrieve(fine_tune["id"])
model = fine_tune["fine_tuned_model"]
assert model.startswith("ada:ft-local:old-client-")
assert fine_tune["id"] in [each["id"] for each in openai.FineTune.list()["data"]]

answer = openai.Completion.create(model=model, prompt="I love it ->", max_tokens=1, logprobs=2)
assert set(answer["choices"][0]["logprobs"]) == {
    "text_offset",
    "token_logprobs",
    "tokens",
    "top_logprobs",
}
assert openai.Completion.create(engine="ada", prompt="I", max_tokens=1)["choices"]
streamed = openai.Completion.create(model=model, prompt="I", max_tokens=3, stream=True)
assert "".join(chunk["choices"][0]["text"] for chunk in streamed)
chat = openai.ChatCompletion.create(
    model="gpt-3.5-turbo", messages=[{"role": "user", "content": "hello"}], n=5, max_tokens=2
)
assert len(chat["choices"]) == 5
assert openai.Model.retrieve(model)["id"] == model
assert model in [each["id"] for each in openai.Model.list()["data"]]
job = openai.FineTuningJob.create(training_file=uploaded["id"], model="gpt-3.5-turbo")
assert openai.FineTuningJob.list_events(id=job["id"], limit=2)["data"]
assert openai.FineTuningJob.cancel(job["id"])["status"] == "cancelled"
try:
    openai.FineTuningJob.cancel(job["id"])
except openai.error.InvalidRequestError as error:
    assert "cancelled" in str(error)


def cli(*arguments: str) -> str:
    """Run the client's own command line."""
    command = [str(Path(sys.executable).with_name("openai")), "-b", sys.argv[1], "-k", "any", "api"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        input="",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


created = cli("fine_tunes.create", "-t", str(path), "-m", model, "--n_epochs", "1")
assert "Fine-tune succeeded" in created, created
assert "Job complete! Status: succeeded" in created, created
again = cli("fine_tunes.list")
assert fine_tune["id"] in again
assert model in cli("fine_tunes.get", "-i", fine_tune["id"])
assert "Fine-tune succeeded" in cli("fine_tunes.follow", "-i", fine_tune["id"])
assert cli("fine_tunes.results", "-i", fine_tune["id"]).startswith("step,elapsed_tokens")
assert cli("completions.create", "-m", model, "-p", "I love", "-M", "3").startswith("I love")
assert "I love" in cli("completions.create", "-m", model, "-p", "I love", "-M", "3", "--stream")
assert "deleted" in cli("models.delete", "-i", model)
assert "deleted" in cli("files.delete", "-i", uploaded["id"])

print("openai-python", openai.version.VERSION, "and its command line ok")
