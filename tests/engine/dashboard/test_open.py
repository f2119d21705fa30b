"""Without a key this machine needs no sign-in, and other host names are refused."""

from __future__ import annotations

import httpx


def test_no_sign_in_but_still_forms_with_tokens(open_engine):
    origin = open_engine.base_url.removesuffix("/v1")
    with httpx.Client(base_url=origin, timeout=60) as http:
        page = http.get("/")
        assert page.status_code == 200
        assert "No jobs yet" in page.text
        assert f"{origin}/v1" in page.text
        assert "Sign out" not in page.text
        assert http.get("/sign-in").headers["location"] == "/"
        assert http.post("/jobs/ftjob-x/cancel").status_code == 403
        assert http.post("/dashboard/v1/completions", json={}).status_code == 403


def test_another_name_for_this_machine_is_refused(open_engine):
    origin = open_engine.base_url.removesuffix("/v1")
    headers = {"host": "rebound.example"}
    with httpx.Client(base_url=origin, timeout=60, headers=headers) as http:
        for path in ("/", "/files", "/dashboard/v1/files"):
            answer = http.get(path)
            assert answer.status_code == 421
            assert "this machine" in answer.text


def test_localhost_is_this_machine(open_engine):
    origin = open_engine.base_url.removesuffix("/v1")
    with httpx.Client(base_url=origin, timeout=60, headers={"host": "localhost:1"}) as http:
        assert http.get("/").status_code == 200
