"""A web page of another site, in a real browser, against an engine without keys."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

PAGE = b"""<!doctype html><title>elsewhere</title>
<iframe name="sink"></iframe>
<form id="plain" method="post" enctype="text/plain" target="sink"></form>
<form id="upload" method="post" enctype="multipart/form-data" target="sink">
<input name="purpose" value="fine-tune"><input type="file" name="file"></form>"""

SEND = """async (root) => {
  const completion = JSON.stringify({model: "tiny", prompt: "a", max_tokens: 1});
  const form = () => {
    const made = new FormData();
    made.append("purpose", "fine-tune");
    made.append("file", new Blob(["{}"]), "stolen.jsonl");
    return made;
  };
  const plain = {method: "POST", mode: "no-cors"};
  const json = {"content-type": "application/json"};
  const results = [];
  for (const [path, options] of [
    ["/v1/files", {...plain, body: form()}],
    ["/v1/completions", {...plain, body: completion}],
    ["/v1/completions", {...plain, body: new Blob([completion])}],
    ["/v1/completions", {method: "POST", headers: json, body: completion}],
    ["/v1/files", {method: "POST", body: form(), credentials: "include"}],
    ["/v1/models/tiny", {method: "DELETE"}],
  ]) {
    try { results.push((await fetch(root + path, options)).type); }
    catch (error) { results.push("failed"); }
  }
  navigator.sendBeacon(root + "/v1/completions", completion);
  navigator.sendBeacon(root + "/v1/files", form());
  return results;
}"""


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name there
        pass


@pytest.fixture(scope="module")
def elsewhere():
    """The port of another site on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


# Another port is the same site to a browser, another name is not.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_site_stores_and_computes_nothing(browser, open_engine, elsewhere, host):
    root = open_engine.base_url.removesuffix("/v1")
    files = httpx.get(f"{root}/v1/files").json()["data"]
    audit = open_engine.home.root / "audit.log"
    began = len(audit.read_text(encoding="utf-8").splitlines()) if audit.exists() else 0
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://{host}:{elsewhere}/")
    results = page.evaluate(SEND, root)
    for form, path in (("plain", "/v1/completions"), ("upload", "/v1/files")):
        page.goto(f"http://{host}:{elsewhere}/")  # anew: one navigation may end another

        def is_the_form_s(answer: Any, path: str = path) -> bool:
            return answer.request.is_navigation_request() and urlsplit(answer.url).path == path

        with page.expect_response(is_the_form_s):
            page.evaluate(
                "([id, action]) => { const form = document.getElementById(id); "
                "form.action = action; form.submit(); }",
                [form, root + path],
            )
    context.close()

    assert set(results) <= {"opaque", "failed"}
    assert httpx.get(f"{root}/v1/files").json()["data"] == files
    statuses = [
        line.split('"status": ')[1].partition(",")[0]
        for line in audit.read_text(encoding="utf-8").splitlines()[began:]
    ]
    assert len(statuses) >= 5
    assert set(statuses) == {"403"}
