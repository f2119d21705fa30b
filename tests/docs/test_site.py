"""The documentation site: built strictly, then read as a browser and a search engine read it."""

import functools
import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests/engine/dashboard/axe/axe-4.14.1.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# One of each kind: plain text, code, tables, wide tables, generated references.
KINDS_OF_PAGES = (
    "",
    "start/",
    "concepts/recipes/",
    "cookbook/gpu-box/",
    "guides/data/",
    "reference/operations/",
    "benchmarks/client/",
)
PACKAGES = ("datasets", "results", "graders", "migrate", "engine", "tracking", "testing")
# Where a page loads something from, other than by a link that is clicked.
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the extra docs"),
]


class PageReader(HTMLParser):
    """What a page has of ids, links, pictures and things that it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.pictures_without_text = set(), [], [], []
        self.title, self.description, self.language, self.headings = "", "", None, []
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in LOADING and found.get(LOADING[tag]):
            self.loads.append(found[LOADING[tag]])
        if tag == "link" and LOADING_LINKS & set((found.get("rel") or "").split()):
            self.loads.append(found["href"])
        if tag == "img" and not found.get("alt"):
            self.pictures_without_text.append(found.get("src"))
        if tag == "meta" and found.get("name") == "description":
            self.description = found["content"]
        if tag == "html":
            self.language = found.get("lang")
        if tag == "h1":
            self.headings.append(tag)
        self._in_title = tag == "title"

    def handle_data(self, data):
        if self._in_title:
            self.title += data

    def handle_endtag(self, _tag):
        self._in_title = False


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning of the build is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """What each page has, by its address below the root."""
    return {
        path.relative_to(site).as_posix().removesuffix("index.html"): PageReader(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(site.rglob("*.html"))
        if path.name == "index.html"
    }


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    playwright_api = pytest.importorskip("playwright.sync_api")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def test_every_page_of_docs_is_in_the_site(pages):
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        name = re.sub(r"(^|/)(index|README)$", r"\1", name)
        assert (f"{name}/" if name and not name.endswith("/") else name) in pages


def test_every_link_and_every_anchor_leads_somewhere(site, pages):
    broken = []
    for name, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(urljoin(f"http://site/{name}", link))
            parts = urlsplit(target)
            if parts.netloc != "site":
                continue
            path = unquote(parts.path).lstrip("/")
            if path in pages:
                if anchor and unquote(anchor) not in pages[path].ids:
                    broken.append(f"{name}: {link}")
            elif not (site / path).is_file():
                broken.append(f"{name}: {link}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(site, pages):
    for name, page in pages.items():
        assert [one for one in page.loads if urlsplit(one).netloc] == [], name
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text("utf-8"))


def test_every_picture_has_an_alternative_text(pages):
    for name, page in pages.items():
        assert page.pictures_without_text == [], name


def test_every_page_has_a_title_a_description_a_language_and_one_first_heading(pages):
    titles = [page.title for page in pages.values()]
    assert len(set(titles)) == len(titles), "two pages have one title"
    for name, page in pages.items():
        assert page.title, name
        assert 20 < len(page.description) <= 200, (name, page.description)
        assert page.language == "en", name
        assert len(page.headings) == 1, name


def test_the_reference_has_every_public_name(site):
    folder = site / "reference/python"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.html"))
    for package in ("tunesmith", *(f"tunesmith.{name}" for name in PACKAGES)):
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            # A second name of something stands with the first one.
            if isinstance(value, type | FunctionType) and value.__name__ == name:
                assert f'id="{package}.{name}"' in text, name


def test_what_people_look_for_is_found(site):
    documents = json.loads((site / "search/search_index.json").read_text("utf-8"))["docs"]
    for words, page in (
        ("separator stop sequence", "concepts/prompt-format/"),
        ("nginx proxy_buffering", "cookbook/gpu-box/"),
        ("ensurepip", "start/"),
        ("seccomp", "security/"),
    ):
        found = {
            one["location"].partition("#")[0]
            for one in documents
            if all(word in one["text"] for word in words.split())
        }
        assert page in found, words


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_pass_axe_and_ask_nobody_else(browser, address, scheme):
    context = browser.new_context(
        color_scheme=scheme, reduced_motion="reduce", viewport={"width": 1280, "height": 900}
    )
    asked, errors = [], []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    # Contrast is all that differs between the two.
    rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    faults = {}
    for name in KINDS_OF_PAGES:
        page.goto(address + name)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("options => axe.run(document, options)", rules)
        assert found["passes"], "axe-core has looked at nothing"
        serious = [
            (rule["id"], [node["html"][:200] for node in rule["nodes"]][:3])
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
        ]
        if serious:
            faults[name] = serious
    context.close()
    assert faults == {}
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_is_wider_than_its_screen(browser, address, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    for name in KINDS_OF_PAGES:
        page.goto(address + name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()


def test_the_search_works_in_a_browser(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.get_by_role("textbox", name="Search").fill("seccomp")
    page.wait_for_selector(".md-search-result__link", timeout=30_000)
    links = page.eval_on_selector_all(".md-search-result__link", "all => all.map(one => one.href)")
    assert any("graders" in link or "security" in link for link in links)
    context.close()
