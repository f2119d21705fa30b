"""The playground in a real browser: history, tools and schemas, thoughts, advice, batches."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tunesmith.testing import simulate

from .appearance import examine

TIMEOUT_MS = 60_000


def answer(prompt):
    text = str(prompt)
    if "nothing" in text:
        return ""
    if "blank" in text:
        return "  \n"
    return "positive" if "love" in text else "negative"


@pytest.fixture(scope="module")
def engine():
    with simulate(answer) as running:
        yield running


@pytest.fixture
def page(browser, engine):
    errors = []
    context = browser.new_context(
        base_url=engine.base_url.removesuffix("/v1"),
        viewport={"width": 1280, "height": 900},
        accept_downloads=True,
    )
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto("/playground")
    yield opened
    context.close()
    assert errors == []


def ask(page, prompt):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.locator("#go").click()
    page.wait_for_function("() => !document.getElementById('go').disabled")


def test_an_empty_answer_and_a_blank_one_are_said_to_be_one(page):
    ask(page, "say nothing")
    assert "An empty answer" in page.inner_text("#left-output")
    ask(page, "say blank")
    assert re.search("only white space|An empty answer", page.inner_text("#left-output"))


def test_what_was_asked_is_kept_until_it_is_forgotten(page):
    ask(page, "I love the sea")
    ask(page, "I hate <b>rain</b>")
    assert page.inner_text("#history-count") == "2"
    page.reload()
    page.get_by_text("History (2)").click()
    assert page.locator("#history li").first.get_by_text("I hate <b>rain</b>").is_visible()
    page.locator(".history-entry").nth(1).click()
    assert page.input_value("#prompt") == "I love the sea"
    assert "positive" in page.inner_text("#right-output")
    examine(page)
    page.get_by_role("button", name="Forget all").click()
    assert page.locator("#history-part").is_hidden()
    page.reload()
    assert page.locator("#history-part").is_hidden()


def test_several_prompts_one_a_line(page):
    page.locator("input[value=batch]").check()
    page.locator("#batch-prompts").fill("I love tea\nI hate tea\n\nsay nothing\n")
    page.locator("#go").click()
    page.locator("#batch-summary").get_by_text("3 of 3 prompts answered").wait_for()
    rows = page.locator("#batch-rows tr")
    assert rows.count() == 3
    assert "positive" in rows.nth(0).inner_text()
    assert "empty: the model ended at once" in rows.nth(2).inner_text()
    assert "1 with an empty answer" in page.inner_text("#batch-summary")
    examine(page)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", 'prompt,completion\n"I love ""tea"", really",positive\nI hate it,negative\n', 2),
        ("a.json", json.dumps([{"prompt": "I love it"}, "I hate it"]), 0),
        ("a.txt", "I love it\r\nI hate it\r\n", 0),
        ("a.jsonl", "\ufeff" + json.dumps({"body": {"messages": [{"role": "user", "content": "I love it"}]}}) + "\n" + json.dumps({"messages": [{"role": "user", "content": "I hate it"}, {"role": "assistant", "content": "negative"}]}) + "\n", 1),  # noqa: E501
    ],
)  # fmt: skip
def test_batch_files_are_read_compared_and_saved(page, tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content.encode())
    page.locator("input[value=batch]").check()
    page.locator("#batch-file").set_input_files(path)
    page.locator("#go").click()
    page.locator("#batch-summary").get_by_text("2 of 2 prompts answered").wait_for()
    summary = page.inner_text("#batch-summary")
    assert (f"as expected {expected} of {expected}" in summary) is bool(expected)
    with page.expect_download() as saved:
        page.get_by_role("button", name="JSONL").click()
    rows = [json.loads(line) for line in Path(saved.value.path()).read_text().splitlines()]
    assert [row["answers"][0]["text"].strip() for row in rows] == ["positive", "negative"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "Line 2 is not JSON."),
        ("a.jsonl", '{"question_id": 1}\n', 'Line 1 has neither "prompt" nor "messages".'),
        ("a.csv", "one,two\n1,2\n", "No column is called prompt"),
        ("a.txt", "\n\n", "There is no prompt in it."),
    ],
)
def test_a_broken_batch_file_names_its_line(page, tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    page.locator("input[value=batch]").check()
    page.locator("#batch-file").set_input_files(path)
    page.locator("#go").click()
    page.locator("#batch-problem").get_by_text(problem).wait_for()


def test_tools_and_schema_are_sent_and_their_faults_stand_beside_them(page):
    page.locator("input[value=chat]").check()
    page.get_by_text("Tools and schema").click()
    page.locator(".turn textarea").nth(1).fill("I love it")
    page.locator("#tools").fill('[{"parameters": {}}]')
    page.locator("#schema").fill("{")
    page.locator("#go").click()
    assert "Tool 1 has no name" in page.inner_text("#tools-problem")
    assert "This is not JSON" in page.inner_text("#schema-problem")
    page.locator("#tools").fill('{"name": "weather", "parameters": {"type": "object"}}')
    page.locator("#schema").fill('{"type": "object", "properties": {}}')
    assert page.locator("#schema-problem").is_hidden()
    sent = []
    page.on("request", lambda request: sent.append(request) if "chat/comp" in request.url else None)
    page.locator("#go").click()
    page.wait_for_function("() => !document.getElementById('go').disabled")
    body = json.loads(sent[0].post_data)
    assert body["tools"][0] == {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object"}},
    }
    assert body["response_format"]["json_schema"]["schema"]["type"] == "object"
    code = page.locator("#snippet-panel-1 code").inner_text()
    compile(code, "snippet", "exec")
    assert "tool_calls or" in code


STREAM = "".join(
    f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': reason}]})}\n\n"
    for delta, reason in (
        ({"role": "assistant", "reasoning_content": "Let me <i>think</i>."}, None),
        ({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"city": '}}]}, None),  # noqa: E501
        ({"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]}, None),
        ({}, "tool_calls"),
    )
) + "data: [DONE]\n\n"  # fmt: skip


def test_thoughts_are_folded_and_a_called_tool_can_be_answered(page):
    # What a tiny or simulated model never says on request; only this stream is made up.
    page.route(
        "**/chat/completions",
        lambda route: route.fulfill(status=200, content_type="text/event-stream", body=STREAM),
    )
    page.locator("input[value=chat]").check()
    page.locator(".turn textarea").nth(1).fill("How is the weather in Oslo?")
    page.locator("#go").click()
    output = page.locator("#right-output")
    output.get_by_text("calls weather").wait_for()
    assert not output.get_by_text("Let me <i>think</i>.").is_visible()
    output.get_by_text("Thoughts").click()
    assert output.get_by_text("Let me <i>think</i>.").is_visible()
    page.locator("#right-continue").click()
    roles = page.locator(".turn select")
    assert [roles.nth(place).input_value() for place in (2, 3)] == ["assistant", "tool"]
    page.locator(".turn textarea").nth(3).fill("rain")
    sent = []
    page.on("request", lambda request: sent.append(request) if "chat/comp" in request.url else None)
    page.locator("#go").click()
    page.wait_for_function("() => !document.getElementById('go').disabled")
    messages = json.loads(sent[0].post_data)["messages"]
    assert messages[1]["tool_calls"][0]["function"] == {
        "name": "weather",
        "arguments": '{"city": "Oslo"}',
    }
    assert messages[1]["content"] is None
    assert messages[2] == {"role": "tool", "content": "rain", "tool_call_id": "call_1"}
