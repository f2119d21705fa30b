"""The plugin in somebody else's test suite: an application, its conftest.py and its tests."""

import subprocess
import sys

import pytest

APPLICATION = '''
"""Sorts messages with a fine-tuned model."""
import tunesmith

def train(path):
    with tunesmith.Client() as client:
        file = client.files.create(file=path, purpose="fine-tune")
        job = client.fine_tunes.create(training_file=file.id, model="ada", n_epochs=1)
        return client.fine_tunes.wait(job.id, poll=0.05).fine_tuned_model

def mood(model, text):
    with tunesmith.Client() as client:
        answer = client.completions.create(
            model=model, prompt=f"{text} ->", max_tokens=1, temperature=0
        )
        return answer.choices[0].text.strip()
'''

CONFTEST = """
import pytest
pytest_plugins = ["tunesmith.testing.plugin"]

@pytest.fixture(scope="session")
def tunesmith_answer():
    return {"What a day ->": " sunny"}.get
"""

TESTS = """
import asyncio
import os
import application

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}"}}\\n'
    for thing in ("phone", "game", "day", "sea")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)

def test_it_learns(tmp_path, tunesmith_environment, request):
    (tmp_path / "train.jsonl").write_text(ROWS)
    model = application.train(str(tmp_path / "train.jsonl"))
    if request.config.getoption("--tunesmith-engine") == "simulated":
        assert application.mood(model, "I love the sea") == "positive"
        assert application.mood(model, "What a day") == "sunny"

def test_the_environment_is_as_before():
    assert "127.0.0.1" not in os.environ.get("OPENAI_BASE_URL", "")

def test_both_colours(tunesmith_client, tunesmith_async_client):
    async def names():
        async with tunesmith_async_client as client:
            return [model.id async for model in client.models.list()]

    assert asyncio.run(names()) == [model.id for model in tunesmith_client.models.list()]
"""


@pytest.fixture
def application(tmp_path, monkeypatch):
    for name in ("OPENAI_BASE_URL", "TUNESMITH_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, text in (
        ("application.py", APPLICATION),
        ("conftest.py", CONFTEST),
        ("test_application.py", TESTS),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["simulated", "tiny"])
def test_an_application_s_tests_pass(engine, application):
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
        f"--tunesmith-engine={engine}",
    ]
    ran = subprocess.run(command, cwd=application, capture_output=True, text=True, check=False)
    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 0
