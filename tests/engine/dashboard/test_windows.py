"""Every page at every width, light and dark: nothing sticks out, and axe finds nothing."""

from __future__ import annotations

import pytest

from .appearance import examine, sticks_out

TIMEOUT_MS = 120_000


def paths(trained):
    model = trained["fine_tuned_model"]
    return {
        "jobs": "/",
        "job": f"/jobs/{trained['id']}",
        "compare": f"/compare?job={trained['id']}",
        "new job": f"/new-job?like={trained['id']}",
        "data": f"/data/{trained['training_file']}",
        "files": "/files",
        "stored": "/stored",
        "models": "/models",
        "model": f"/models/show?model={model}",
        "names": "/names",
        "migration": "/migration",
        "export": f"/exports/new?model={model}",
        "playground": f"/playground?model={model}",
        "wrong address": "/nowhere",
    }


@pytest.fixture
def page(browser, origin, keys):
    context = browser.new_context(base_url=origin, locale="en-GB")
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    opened.goto("/sign-in")
    opened.get_by_label("API key").fill(keys["owner"])
    opened.get_by_role("button", name="Sign in").click()
    opened.wait_for_url("**/")
    yield opened
    context.close()


def ready(page):
    page.wait_for_function(
        "() => !document.body.innerText.match(/computing…|Reading the|loading…/)", timeout=60_000
    )


def test_nothing_sticks_out_at_any_width(page, trained):
    for path in paths(trained).values():
        page.goto(path)
        ready(page)
        for width in (1280, 768, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert sticks_out(page) == [], (path, width)
            scrolls = page.evaluate("document.documentElement.scrollWidth")
            assert scrolls <= width, (path, width, scrolls)


def test_axe_finds_nothing_serious_on_any_page(page, trained):
    for path in paths(trained).values():
        page.goto(path)
        ready(page)
        examine(page)
    page.set_viewport_size({"width": 390, "height": 900})
    for path in ("/", "/models", "/files"):
        page.goto(path)
        ready(page)
        examine(page)


@pytest.mark.usefixtures("trained")
def test_names_are_whole_and_actions_in_sight_on_a_narrow_screen(page):
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/files")
    name = page.locator("tbody th .clip").first
    assert name.evaluate("it => it.scrollWidth <= it.clientWidth + 1"), "no name is cut short"
    for action in page.locator("td.row-actions").first.locator("a, button").all():
        box = action.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    page.goto("/")
    for link in page.get_by_role("navigation", name="Main").get_by_role("link").all():
        box = link.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390, "every page can be reached"
