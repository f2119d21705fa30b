"""The whole workflow in a real browser: create, watch, read, compare, cancel, delete, be refused.

Each page on the way is examined by axe-core in both colour schemes.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from .appearance import examine, screenshot

TIMEOUT_MS = 180_000
# A click on Stop after the first words: from outside the page it might come after the last one.
STOP_SOON = """() => new MutationObserver((changes, observer) => {
  if (document.querySelector("#left-output .text")?.textContent.length > 20) {
    observer.disconnect();
    document.getElementById("halt").click();
  }
}).observe(document.getElementById("left-output"), { childList: true, subtree: true,
  characterData: true })"""
ONE_EPOCH = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}


@pytest.fixture
def open_page(browser, origin, keys):
    """Open a page for the holder of a key; errors in the page's scripts fail the test."""
    errors = []
    contexts = []

    def open_for(name: str, **options):
        options = {"viewport": {"width": 1280, "height": 860}, "locale": "en-GB"} | options
        context = browser.new_context(base_url=origin, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text) if "Security Policy" in message.text else None
            ),
        )
        page.goto("/sign-in")
        page.get_by_label("API key").fill(keys[name])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/")
        return page

    yield open_for
    for context in contexts:
        context.close()
    assert errors == []


def test_create_watch_and_cancel(open_page, upload):
    moods = upload("moods.jsonl")
    page = open_page("member")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Training file").select_option(moods)
    page.get_by_label("Suffix").fill("watched")
    page.get_by_label("Epochs").fill("50")
    page.get_by_label("Batch size").fill("1")
    page.get_by_label("Batch size").blur()
    page.get_by_text("Time, about").wait_for()
    examine(page)
    screenshot(page, "new-job")
    page.get_by_role("button", name="Create the job").click()
    page.wait_for_url("**/jobs/ftjob-*")

    page.wait_for_selector("#charts canvas")
    points = int(page.get_attribute("#curves", "data-points"))
    page.wait_for_function(
        "points => Number(document.getElementById('curves').dataset.points) > points",
        arg=points + 3,
    )
    assert page.get_by_role("heading", name="watched").get_by_text("Running").is_visible()
    assert page.locator("#charts figure").count() == 2
    assert page.locator("#messages li").filter(has_text="Training on 60 examples").count() == 1
    examine(page)

    page.get_by_role("link", name="Show steps").click()
    page.locator("#messages li").filter(has_text=re.compile(r"Step \d+/3000")).first.wait_for()
    before = page.locator("#messages li").count()
    page.wait_for_function(
        "count => document.querySelectorAll('#messages li').length > count", arg=before
    )
    sequence = page.locator("#messages .message").all_text_contents()
    assert len(sequence) == len(set(sequence)), "no message appears twice"

    page.get_by_role("button", name="Cancel").focus()
    page.evaluate("() => document.getElementById('live').setAttribute('data-old', '')")
    page.wait_for_function("() => !('old' in document.getElementById('live').dataset)")
    assert page.evaluate("document.activeElement.id") == "cancel", "renewal keeps the focus"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep it").click()
    assert page.get_by_role("heading", name="watched").get_by_text("Running").is_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("heading", name="watched").get_by_text("Cancelled").wait_for()
    page.goto("/?status=cancelled")
    assert page.get_by_role("link", name="watched").is_visible()


def test_a_finished_job_its_metrics_and_its_models(open_page, trained):
    page = open_page("owner")
    page.goto(f"/jobs/{trained['id']}")
    page.wait_for_selector("#charts canvas")
    assert page.locator("#charts figure").count() == 3
    assert page.locator(".u-legend .u-value").filter(has_text=re.compile(r"\d")).count() > 5
    page.get_by_text("Metrics as a table").click()
    page.locator(".metrics-table tbody tr").first.wait_for()
    examine(page)
    for path in ("/", "/files", "/stored", "/models", "/new-job"):
        page.goto(path)
        examine(page)
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", "/files", "/stored", "/models", "/playground", f"/jobs/{trained['id']}"):
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, (path, width)


def test_a_models_page_has_the_code_that_asks_it(open_page, trained, keys, monkeypatch, capsys):
    page = open_page("member")
    page.goto(f"/models/show?model={trained['fine_tuned_model']}")
    code = page.locator("#model-code-panel-1 code").inner_text()
    assert 'prompt="Your prompt ->"' in code
    monkeypatch.setenv("TUNESMITH_API_KEY", keys["member"])
    exec(compile(code, "snippet", "exec"), {})  # noqa: S102 - our own snippet, as a user runs it
    output = capsys.readouterr().out.strip()
    page.get_by_role("tab", name="curl").click()
    curl = page.locator("#model-code-panel-2 code").inner_text()
    run = subprocess.run(["bash", "-c", curl], capture_output=True, check=True)  # noqa: S607
    assert json.loads(run.stdout)["choices"][0]["text"].strip() == output
    assert "import OpenAI" in page.locator("#model-code-panel-3 code").text_content()
    examine(page)


def test_compare_base_and_fine_tuned(open_page, trained, keys, monkeypatch, capsys):
    page = open_page("member")
    page.goto(f"/jobs/{trained['id']}")
    page.get_by_role("link", name="Try it in the playground").click()
    page.locator("#format-text").get_by_text('the separator " ->" is put after').wait_for()
    assert page.input_value("#left-model") == "tiny"
    assert page.input_value("#right-model") == trained["fine_tuned_model"]
    assert page.input_value("#max_tokens") == "1"
    page.get_by_label("Prompt", exact=True).fill("I love the <b>sea</b>")
    page.get_by_role("button", name="Ask both").click()
    for side in ("left", "right"):
        page.locator(f"#{side}-stats [data-stat=answer]").get_by_text("1 token").wait_for()
        assert page.locator(f"#{side}-bars li").count() >= 5
        assert re.search(r"\d", page.locator(f"#{side}-stats [data-stat=first]").inner_text())
        assert "tokens" in page.locator(f"#{side}-stats [data-stat=prompt]").inner_text()
    examine(page)
    screenshot(page, "playground")

    code = page.locator("#snippet-panel-1 code").inner_text()
    assert 'prompt="I love the <b>sea</b> ->"' in code
    monkeypatch.setenv("TUNESMITH_API_KEY", keys["member"])
    exec(compile(code, "snippet", "exec"), {})  # noqa: S102 - our own snippet, as a user runs it
    output = page.locator("#right-output .text").inner_text()
    assert capsys.readouterr().out.strip() == output.strip()
    page.get_by_role("tab", name="curl").click()
    curl = page.locator("#snippet-panel-2 code").inner_text()
    run = subprocess.run(["bash", "-c", curl], capture_output=True, check=True)  # noqa: S607
    assert json.loads(run.stdout)["choices"][0]["text"].strip() == output.strip()
    page.get_by_role("tab", name="curl").press("ArrowRight")
    assert "process.env.TUNESMITH_API_KEY" in page.locator("#snippet-panel-3 code").inner_text()

    page.get_by_role("button", name="Copy link").click()
    address = page.url
    assert "?" not in address.partition("#")[0]
    page.goto("/files")
    page.goto(address)
    page.wait_for_function("() => document.getElementById('prompt').value.includes('sea')")
    assert page.input_value("#right-model") == trained["fine_tuned_model"]


@pytest.mark.usefixtures("trained")
def test_chat_is_streamed_and_can_be_stopped(open_page):
    page = open_page("member")
    page.goto("/playground")
    page.locator("input[value=chat]").check()
    page.get_by_role("button", name="Ask both").click()
    assert page.get_by_text("Write a user message first.").is_visible()
    page.locator(".turn textarea").nth(1).fill("Write a limerick.")
    page.get_by_label("Max tokens").fill("2000")
    page.evaluate(STOP_SOON)
    page.get_by_role("button", name="Ask both").click()
    page.locator("#left-stats [data-stat=reason]").get_by_text(re.compile("you|stop")).wait_for()
    assert page.get_by_role("button", name="Ask both").is_enabled()
    page.get_by_label("Max tokens").fill("3")
    page.get_by_role("button", name="Ask both").click()
    page.locator("#right-continue").click()
    turns = page.locator(".turn select")
    assert [turns.nth(place).input_value() for place in range(4)] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_upload_and_delete_a_file_with_a_hostile_name(open_page, tmp_path):
    name = "<img src=x onerror=alert(1)>.jsonl"
    path = tmp_path / name
    path.write_text('{"prompt": "a ->", "completion": " b"}\n' * 20, encoding="utf-8")
    page = open_page("member")
    page.goto("/files")
    page.locator("#upload-file").set_input_files(path)
    row = page.get_by_role("row").filter(has_text=name)
    row.wait_for()
    examine(page)
    row.get_by_role("button", name=re.compile("Delete")).click()
    assert page.locator("#confirm-text").get_by_text(name).is_visible()
    examine(page)
    page.get_by_role("button", name="Delete the file").click()
    page.wait_for_load_state()
    row.wait_for(state="detached")


def test_a_member_is_refused_and_an_owner_deletes(open_page, api, upload, wait_for):
    created = api.post(
        "fine_tuning/jobs",
        json={"training_file": upload(), "model": "tiny", "method": ONE_EPOCH},
    )
    job = wait_for(created.json()["id"], lambda job: job["status"] == "succeeded")
    name = job["fine_tuned_model"]
    page = open_page("member")
    page.goto("/models")
    assert page.get_by_text("Only an owner of the organisation may delete").is_visible()
    assert page.get_by_role("button", name=f"Delete {name}").count() == 0
    status = page.evaluate(
        """name => fetch("/dashboard/v1/models/" + name, {
            method: "DELETE",
            headers: {"x-form-token": document.querySelector("meta[name=form-token]").content},
        }).then(answer => answer.status)""",
        name,
    )
    assert status == 403
    page.close()

    page = open_page("owner")
    page.goto("/models")
    page.get_by_role("button", name=f"Delete {name}", exact=True).click()
    page.get_by_role("button", name="Delete the model").click()
    page.get_by_role("button", name=f"Delete {name}", exact=True).wait_for(state="detached")
    assert api.get(f"models/{name}").status_code == 404
    page.goto(f"/jobs/{job['id']}")
    assert page.get_by_text("This model has been deleted.").is_visible()


def test_keyboard_alone(open_page):
    page = open_page("owner")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "New job"
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
