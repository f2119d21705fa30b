"""The page of names: who answers, the stages as buttons, the agreement as a curve."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.http_stub import Stub, answer

from tunesmith.testing import SimulatedEngine, simulate

NAME = "ft:gpt-4o-mini-2024-07-18:acme::<img src=x>"


@pytest.fixture
def old() -> Iterator[Stub]:
    stub = Stub()
    message = {"role": "assistant", "content": "positive"}
    stub.default = answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    yield stub
    stub.close()


@pytest.fixture
def engine(old: Stub) -> Iterator[SimulatedEngine]:
    with simulate(lambda _: "Positive") as running:
        path = running.home.upstreams
        path.write_text(f'[old]\nurl = "{old.url}"\napi_key = "secret-key"\n', encoding="utf-8")
        path.chmod(0o600)
        yield running


@pytest.fixture
def browser(engine: SimulatedEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.base_url.removesuffix("/v1"), timeout=30) as client:
        yield client


def press(browser: httpx.Client, **fields: Any) -> httpx.Response:
    page = browser.get("/names").text
    token = re.search(r'name="form-token" content="([^"]+)"', page)
    assert token
    return browser.post("/names/stage", data={"form_token": token[1], "name": NAME, **fields})


def test_the_stages_are_buttons_and_agreement_is_a_curve(
    engine: SimulatedEngine, browser: httpx.Client
):
    assert "No names yet" in browser.get("/names").text
    with engine.client() as client:
        client.model_routes.set(NAME, target="ada", upstream="old", stage="upstream")
        pressed = press(browser, stage="mirror")
        assert (pressed.status_code, pressed.headers["location"]) == (303, "/names")
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "a"}])
        deadline = time.monotonic() + 20
        while "1 compared" not in (page := browser.get("/names").text):
            assert time.monotonic() < deadline, page
            time.sleep(0.2)

        assert "100 % of 1 compared" in page
        assert '<polyline class="agreement" points="' in page
        assert "equal but for spaces and case" in page
        assert "<img src=x>" not in page
        assert "secret-key" not in page
        assert press(browser, stage="percentage", percentage="25").status_code == 303
        route = client.model_routes.retrieve(NAME)
        assert (route.stage, route.percentage) == ("percentage", 25.0)
        assert press(browser, stage="local").status_code == 303
        assert client.model_routes.retrieve(NAME).stage == "local"


def test_a_form_from_elsewhere_changes_nothing(engine: SimulatedEngine, browser: httpx.Client):
    with engine.client() as client:
        client.model_routes.set(NAME, target="ada", upstream="old", stage="upstream")
        refused = browser.post("/names/stage", data={"name": NAME, "stage": "local"})

        assert refused.status_code == 403
        assert client.model_routes.retrieve(NAME).stage == "upstream"


def test_a_stage_that_cannot_be_is_refused_with_its_reason(
    engine: SimulatedEngine, browser: httpx.Client
):
    with engine.client() as client:
        client.model_routes.set(NAME, upstream="old")
        refused = press(browser, stage="mirror")

        assert refused.status_code == 400
        assert "needs a target" in refused.text
