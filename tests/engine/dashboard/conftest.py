"""An engine with keys and one without, and browsers that have signed in."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith.engine import Engine, start
from tunesmith.testing import write_tiny_home

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} {number} ->", "completion": " {mood}"}}\n'
    for number in range(5)
    for thing in ("phone", "game", "day", "sea", "city", "soap")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)
FORMAT = {"version": 1, "separator": " ->", "leading_whitespace": " ", "stop": ""}
HOSTILE = "<img src=x onerror=alert(1)>\"';--{{7*7}}.jsonl"


class Browser:
    """A minimal browser: keeps cookies and sends forms with their token."""

    def __init__(self, origin: str) -> None:
        self.http = httpx.Client(
            base_url=origin, timeout=60, headers={"sec-fetch-site": "same-origin"}
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def token(self) -> str:
        page = self.http.get("/", follow_redirects=True).text
        match = re.search(r'name="form-token" content="([0-9a-f]{64})"', page)
        assert match
        return match[1]

    def post(self, path: str, *, token: str | None = None, **fields: str) -> httpx.Response:
        data = {"form_token": self.token() if token is None else token} | fields
        return self.http.post(path, data=data)

    def sign_in(self, key: str, next_page: str = "/") -> httpx.Response:
        return self.post("/sign-in", api_key=key, next_page=next_page)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; tests that need it are skipped where none is installed.

    Not for the whole session: Playwright keeps an event loop running in this thread meanwhile,
    in which other tests could not start one.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        # Chromium's profile holds a Unix socket, whose path a long temporary folder would exceed.
        short = {**os.environ, "TMPDIR": "/tmp"}  # noqa: S108 - the folder within is private
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_FLAGS, env=short
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Iterator[Engine]:
    with start(write_tiny_home(tmp_path_factory.mktemp("keyed"), tiny_base_model)) as running:
        yield running


@pytest.fixture(scope="session")
def open_engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path
) -> Iterator[Engine]:
    with start(write_tiny_home(tmp_path_factory.mktemp("open"), tiny_base_model)) as running:
        yield running


@pytest.fixture(scope="session")
def origin(engine: Engine) -> str:
    return engine.base_url.removesuffix("/v1")


@pytest.fixture(scope="session")
def make_key(engine: Engine) -> Iterator[Callable[..., tuple[str, str]]]:
    """Create a key; return its id and its secret."""
    from tunesmith.engine.security.keys import create_key
    from tunesmith.engine.store.database import Database

    database = Database(f"sqlite:///{engine.home.database}")

    def make(role: str = "owner", organization: str = "local") -> tuple[str, str]:
        row, secret = create_key(database, name="test", role=role, organization=organization)
        time.sleep(1.1)  # a server reads the keys once a second
        return row.id, secret

    yield make
    database.close()


@pytest.fixture(scope="session")
def keys(make_key: Callable[..., tuple[str, str]]) -> dict[str, str]:
    return {
        "owner": make_key("owner")[1],
        "member": make_key("member")[1],
        "stranger": make_key("owner", "elsewhere")[1],
    }


@pytest.fixture(scope="session")
def visit(origin: str, keys: dict[str, str]) -> Iterator[Callable[[str], Browser]]:
    """Return a browser that has signed in with the key of that name; "" has not."""
    browsers = []

    def browser(name: str) -> Browser:
        made = Browser(origin)
        browsers.append(made)
        if name:
            assert made.sign_in(keys[name]).status_code == 303
        return made

    yield browser
    for made in browsers:
        made.http.close()


@pytest.fixture(scope="session")
def owner(visit: Callable[[str], Browser]) -> Browser:
    return visit("owner")


@pytest.fixture(scope="session")
def member(visit: Callable[[str], Browser]) -> Browser:
    return visit("member")


@pytest.fixture(scope="session")
def api(engine: Engine, keys: dict[str, str]) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {keys['owner']}"}
    with httpx.Client(base_url=engine.base_url + "/", timeout=60, headers=headers) as client:
        yield client


@pytest.fixture(scope="session")
def upload(api: httpx.Client) -> Callable[..., str]:
    def upload_text(name: str = "train.jsonl", text: str = ROWS, **fields: str) -> str:
        data = {"purpose": "fine-tune"} | fields
        answer = api.post("files", data=data, files={"file": (name, text.encode())})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    return upload_text


@pytest.fixture(scope="session")
def wait_for(
    api: httpx.Client,
) -> Callable[[str, Callable[[dict[str, Any]], bool]], dict[str, Any]]:
    """Wait until a job fulfils a condition."""

    def wait(job_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            job = api.get(f"fine_tuning/jobs/{job_id}").json()
            if condition(job):
                return job
            assert job["status"] != "failed", job["error"]
            time.sleep(0.1)
        pytest.fail(f"the job came no further than {job}")

    return wait


@pytest.fixture(scope="session")
def trained(
    api: httpx.Client, upload: Callable[..., str], wait_for: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """A job that has succeeded, with validation, metrics of classes and a prompt format."""
    training = upload(HOSTILE, prompt_format=json.dumps(FORMAT))
    body = {
        "training_file": training,
        "validation_file": upload("valid.jsonl", ROWS.replace("the", "this")),
        "model": "tiny",
        "suffix": "moods",
        "n_epochs": 2,
        "batch_size": 8,
        "compute_classification_metrics": True,
        "classification_positive_class": " positive",
    }
    created = api.post("fine-tunes", json=body)
    assert created.status_code == 200, created.text
    return wait_for(created.json()["id"], lambda job: job["status"] == "succeeded")
