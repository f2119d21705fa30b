"""Programs with old model names, unchanged, before, during and after the cut.

The old service is a recorded organisation on a socket of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunesmith import Client, NotFoundError
from tunesmith.testing import (
    RecordedOrganization,
    SimulatedEngine,
    recorded_organization,
    simulate,
)

from .test_clients import environments, install, python_with  # noqa: F401 - a fixture

HERE = Path(__file__).parent / "programs"
STAGES = {
    "upstream": "upstream",
    "mirror": "upstream",
    "percentage": "local",
    "local": "local",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[SimulatedEngine]:
    with simulate(lambda _: "positive") as running:
        yield running


@pytest.fixture(scope="module")
def old() -> Iterator[RecordedOrganization]:
    with recorded_organization(files=60, jobs=12) as organization:
        yield organization


@pytest.fixture(scope="module")
def azure() -> Iterator[RecordedOrganization]:
    with recorded_organization("azure", files=60, jobs=12) as organization:
        yield organization


@pytest.fixture(scope="module")
def client(
    engine: SimulatedEngine, old: RecordedOrganization, azure: RecordedOrganization
) -> Iterator[Client]:
    path = engine.home.upstreams
    keys = {one: one.keys[one.projects[0]] for one in (old, azure)}
    path.write_text(
        f'[old]\nurl = "{old.base_url}"\napi_key = "{keys[old]}"\n'
        f'[azure]\nurl = "{azure.azure_endpoint}"\napi_key = "{keys[azure]}"\nkind = "azure"\n',
        encoding="utf-8",
    )
    path.chmod(0o600)
    with engine.client() as made:
        yield made


@pytest.fixture(scope="module")
def name(old: RecordedOrganization) -> str:
    """A fine-tuned model of the old service that still answers."""

    def answers(name: str) -> bool:
        try:
            made.chat.completions.create(model=name, messages=[{"role": "user", "content": "a"}])
        except NotFoundError:
            return False
        return True

    with old.client(max_retries=0) as made:
        names = (one.id for one in made.models.list())
        return next(one for one in names if one.startswith("ft:") and answers(one))


def through_the_stages(
    client: Client, name: str, upstream: str, run: Callable[[], list[list[str]]]
) -> None:
    """Run a program in each stage; it prints the side and the model of each answer."""
    for stage, side in STAGES.items():
        client.model_routes.set(name, target="ada", upstream=upstream, stage=stage, percentage=100)
        for shown_side, model in run():
            assert shown_side == side, stage
            assert side == "upstream" or model == name, stage


def output(*command: str) -> list[list[str]]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split(maxsplit=1) for line in done.stdout.splitlines()]


@pytest.fixture
def openai_python(environments: Path) -> list[str]:  # noqa: F811 - the fixture
    """The program for Python, where its library is installed."""
    python = python_with(environments / "openai==3.54.0", "openai==3.54.0")
    return [str(python), str(HERE / "use_old_name.py")]


def test_openai_python(
    engine: SimulatedEngine, client: Client, name: str, openai_python: list[str]
):
    through_the_stages(client, name, "old", lambda: output(*openai_python, engine.base_url, name))


def cut_while_it_runs(client: Client, name: str, *command: str) -> None:
    """Cut over while a program asks again and again, without retries, until the new model answers.

    It prints the side of each answer, and must not fail once.
    """
    client.model_routes.set(name, target="ada", upstream="old", stage="upstream")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        sides = [program.stdout.readline().split()[0] for _ in range(3)]
        client.model_routes.set(name, stage="mirror")
        sides += [program.stdout.readline().split()[0] for _ in range(3)]
        client.model_routes.set(name, stage="local")
        sides += [line.split()[0] for line in program.stdout]
    assert program.returncode == 0
    assert set(sides[:-1]) == {"upstream"}
    assert sides[-1] == "local"


def test_the_cut_while_openai_python_asks(
    engine: SimulatedEngine, client: Client, name: str, openai_python: list[str]
):
    cut_while_it_runs(client, name, *openai_python, engine.base_url, name, "until-local")


def test_openai_python_for_azure(
    engine: SimulatedEngine,
    client: Client,
    azure: RecordedOrganization,
    openai_python: list[str],
):
    endpoint = engine.base_url.removesuffix("/v1")
    deployment = next(iter(azure.deployments))
    through_the_stages(
        client,
        deployment,
        "azure",
        lambda: output(*openai_python, endpoint, deployment, "azure"),
    )


@pytest.fixture
def node_script(environments: Path) -> str:  # noqa: F811 - the fixture
    """The program for Node.js, where its library is installed."""
    folder = environments / "node-old-names"
    if not (folder / "node_modules").exists():
        folder.mkdir(exist_ok=True)
        quietly = ["--silent", "--no-audit", "--no-fund", "--fetch-retries=1"]
        install("npm", "install", *quietly, "openai@6.49.0", cwd=folder)
    return str(shutil.copy(HERE / "use_old_name.mjs", folder))


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js with npm")
def test_openai_node(engine: SimulatedEngine, client: Client, name: str, node_script: str):
    through_the_stages(
        client, name, "old", lambda: output("node", node_script, engine.base_url, name)
    )


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js with npm")
def test_the_cut_while_openai_node_asks(
    engine: SimulatedEngine, client: Client, name: str, node_script: str
):
    cut_while_it_runs(client, name, "node", node_script, engine.base_url, name, "until-local")


def curl(base_url: str, name: str, written: str) -> list[str]:
    """Return a command that asks a model and prints what curl knows of the answer."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "I love it"}]})
    form = ["--data", body, "-H", "content-type: application/json"]
    return ["curl", "-sS", "--fail", "-w", written, f"{base_url}/chat/completions", *form]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(engine: SimulatedEngine, client: Client, name: str):
    def run() -> list[list[str]]:
        command = curl(engine.base_url, name, "%{header_json}")
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        answer, end = json.JSONDecoder().raw_decode(done.stdout)
        headers = json.loads(done.stdout[end:])
        return [[headers["x-tunesmith-side"][0], answer["model"]]]

    through_the_stages(client, name, "old", run)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_cut_while_curl_asks(engine: SimulatedEngine, client: Client, name: str):
    asks = shlex.join([*curl(engine.base_url, name, "%header{x-tunesmith-side}"), "-o", os.devnull])
    loop = f'until [ "$side" = local ]; do side=$({asks}) || exit 1; echo "$side"; done'
    cut_while_it_runs(client, name, "sh", "-c", loop)
