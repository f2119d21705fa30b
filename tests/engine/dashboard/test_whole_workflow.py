"""From an empty home to an export, in a real browser: a messy table, fixes, two runs, a batch.

One window in the default suite; `TUNESMITH_WINDOWS=all` repeats it at all of them.
`TUNESMITH_PICTURE_MODEL` names the folder of a real model, for pictures that are worth looking at.
"""

from __future__ import annotations

import functools
import json
import os
import tarfile
import time
from pathlib import Path

import httpx
import pytest

from tunesmith.engine import start

from .appearance import examine, screenshot, sticks_out

WINDOWS = [
    (1280, "light"),
    *(
        [(1280, "dark"), (768, "light"), (768, "dark"), (390, "light"), (390, "dark")]
        if os.environ.get("TUNESMITH_WINDOWS") == "all"
        else [(390, "dark")]
        if os.environ.get("TUNESMITH_WINDOWS") == "narrow"
        else []
    ),
]
TIMEOUT_MS = 240_000
THINGS = ("phone", "kettle", "lamp", "chair", "book", "soap", "film", "hotel")
MESSY = (
    "text,label\n"
    + "".join(f"I love the {thing}{mark},positive\n" for thing in THINGS for mark in ("", "!"))
    + "".join(f"I hate the {thing}{mark},negative\n" for thing in THINGS for mark in ("", "!"))
    + "I love the phone,positive\n"
    + "The box was empty,\n"
    + '"Broken, and late",negative\n'
)
BATCH = "".join(
    json.dumps({"prompt": f"I {verb} the {thing}", "completion": mood}) + "\n"
    for verb, mood in (("love", "positive"), ("hate", "negative"))
    for thing in ("radio", "garden")
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory, tiny_base_model):
    real = os.environ.get("TUNESMITH_PICTURE_MODEL")
    name, folder = ("smollm2-135m-instruct", Path(real)) if real else ("tiny", tiny_base_model)
    home = tmp_path_factory.mktemp("whole")
    table = f'default = "{name}"\n[base.{name}]\npath = "{folder.as_posix()}"\n'
    (home / "models.toml").write_text(table, encoding="utf-8")
    with start(home, max_concurrent_jobs=1) as running:
        yield running


@pytest.fixture
def page(browser, engine, window):
    width, scheme = window
    errors = []
    context = browser.new_context(
        base_url=engine.base_url.removesuffix("/v1"),
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        locale="en-GB",
        accept_downloads=True,
    )
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


def inspect_page(page, name, window):
    width, scheme = window
    assert sticks_out(page) == [], (name, window)
    if (width, scheme) == WINDOWS[0]:
        examine(page)
    page.emulate_media(color_scheme=scheme)
    screenshot(page, name if window == WINDOWS[0] else f"{name}-{width}-{scheme}")


def ended(engine, ids):
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    with httpx.Client(base_url=engine.base_url) as http:
        while time.monotonic() < deadline:
            jobs = [http.get(f"fine_tuning/jobs/{one}").json() for one in ids]
            if all(job["status"] == "succeeded" for job in jobs):
                return jobs
            assert not any(job["status"] == "failed" for job in jobs), jobs
            time.sleep(0.3)
    pytest.fail("the jobs did not end")


def bring_data(page, window, folder):
    page.goto("/")
    page.get_by_role("link", name="New job").first.click()
    table = folder / "reviews.csv"
    table.write_text(MESSY, encoding="utf-8")
    page.locator("#upload-file").set_input_files(table)
    page.wait_for_url("**/data/file-*")
    page.get_by_role("heading", name="What was found in the file").wait_for()
    assert page.get_by_text("line 35: the completion is empty").first.is_visible()
    page.locator("#fix-drop-duplicates").uncheck()
    page.get_by_text("34 of 35").wait_for()
    page.locator("#fix-drop-duplicates").check()
    page.get_by_text("33 of 35").wait_for()
    page.get_by_text("Before and after").first.click()
    assert page.locator(".token.learned").count() > 3
    inspect_page(page, "dashboard-data", window)
    page.get_by_role("button", name="Write the data and set up a job").click()


def train_twice(page, window):
    page.wait_for_url("**/new-job?**")
    assert page.input_value("#training_file").startswith("file-")
    page.get_by_label("Epochs").fill("1, 3")
    page.get_by_label("Batch size").fill("4")
    page.get_by_label("Suffix").fill("reviews")
    page.get_by_label("Tags").fill("first try")
    page.get_by_label("Tags").blur()
    page.get_by_text("Time, about").wait_for()
    inspect_page(page, "dashboard-new-job", window)
    page.get_by_role("button", name="Create 2 jobs").click()
    page.wait_for_url("**/compare?**")
    return [part.removeprefix("job=") for part in page.url.partition("?")[2].split("&")]


def see_both(page, window, ids):
    page.reload()
    page.wait_for_function("() => Number(document.getElementById('overlay').dataset.charts) >= 2")
    assert page.locator("tr.differs").filter(has_text="n_epochs").count() == 1
    inspect_page(page, "dashboard-compare", window)
    page.goto("/?text=first+try")
    assert page.locator("table.list tbody tr").count() >= len(ids)
    page.locator(".pick input").first.check()
    inspect_page(page, "dashboard-jobs", window)
    page.goto(f"/jobs/{ids[1]}")
    page.wait_for_selector("#charts canvas")
    inspect_page(page, "dashboard-job", window)


def ask_a_batch(page, window, folder, model):
    page.get_by_role("link", name="Model, code and export").click()
    assert page.get_by_text(model).first.is_visible()
    inspect_page(page, "dashboard-model", window)
    page.get_by_role("link", name="Try it", exact=True).click()
    page.locator("#format-text").get_by_text("the separator").wait_for()
    page.locator("input[value=batch]").check()
    batch = folder / "batch.jsonl"
    batch.write_text(BATCH, encoding="utf-8")
    page.locator("#batch-file").set_input_files(batch)
    page.locator("#go").click()
    page.locator("#batch-summary").get_by_text("4 of 4 prompts answered").wait_for()
    inspect_page(page, "playground-batch", window)
    with page.expect_download() as saved:
        page.get_by_role("button", name="JSONL").click()
    rows = [json.loads(line) for line in Path(saved.value.path()).read_text().splitlines()]
    asked = [json.loads(line)["prompt"] for line in BATCH.splitlines()]
    assert [row["prompt"] for row in rows] == asked
    assert rows[0]["answers"][1]["model"] == model
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert Path(saved.value.path()).read_text("utf-8-sig").startswith('"prompt","expected"')


def export(page, window, model):
    page.goto(f"/models/show?model={model}")
    page.get_by_role("link", name="Export", exact=True).click()
    page.get_by_role("button", name="Export").click()
    page.wait_for_url("**/models#exports")
    link = page.get_by_role("link", name="Download").first
    link.wait_for()
    inspect_page(page, "dashboard-models", window)
    with page.expect_download() as saved:
        link.click()
    with tarfile.open(saved.value.path()) as archive:
        assert any(name.endswith("adapter_model.safetensors") for name in archive.getnames())


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window[0]}-{window[1]}")
def test_from_a_messy_table_to_an_export(page, engine, window, tmp_path):
    bring_data(page, window, tmp_path)
    ids = train_twice(page, window)
    model = ended(engine, ids)[1]["fine_tuned_model"]
    see_both(page, window, ids)
    ask_a_batch(page, window, tmp_path, model)
    export(page, window, model)


def hold(held, route):
    held.append(route)


@pytest.mark.parametrize("window", WINDOWS[:1], ids=lambda window: f"{window[0]}-{window[1]}")
@pytest.mark.usefixtures("window")
def test_a_file_chosen_before_the_scripts_have_arrived_is_taken(page, tmp_path):
    table = tmp_path / "reviews.csv"
    table.write_text(MESSY, encoding="utf-8")
    for address, script, choice, seen in (
        ("/new-job", "upload.js", "#upload-file", "What was found in the file"),
        ("/playground", "batch.js", "#batch-file", "reviews.csv"),
    ):
        held = []
        page.route(f"**/{script}*", functools.partial(hold, held))
        page.goto(address, wait_until="commit")
        page.locator(choice).set_input_files(table)
        page.wait_for_function("name => document.querySelector(name).files.length", arg=choice)
        assert held, "the script had arrived before"
        for route in held:
            route.continue_()
        page.get_by_text(seen).first.wait_for(state="attached")
