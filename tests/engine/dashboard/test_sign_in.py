"""Signing in, staying in, getting out."""

from __future__ import annotations

import pytest


def test_pages_redirect_to_the_sign_in_and_back(visit, keys):
    browser = visit("")
    answer = browser.get("/files")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/files")
    answer = browser.sign_in(keys["owner"], next_page="/files")
    assert (answer.status_code, answer.headers["location"]) == (303, "/files")
    assert browser.get("/files").status_code == 200


def test_partial_pages_redirect_there_too(visit):
    answer = visit("").get("/", headers={"hx-request": "true"})
    assert answer.headers["hx-redirect"].startswith("/sign-in")


def test_a_wrong_key_is_refused_and_not_repeated(visit):
    answer = visit("").sign_in("sk-tunesmith-wrong")
    assert answer.status_code == 401
    assert "wrong or has been revoked" in answer.text
    assert "sk-tunesmith-wrong" not in answer.text


def test_the_cookie_is_hidden_from_scripts_and_other_sites_and_has_no_key(visit, keys):
    browser = visit("")
    before = browser.get("/sign-in").headers["set-cookie"]
    after = browser.sign_in(keys["owner"]).headers["set-cookie"]
    for cookie in (before, after):
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "Path=/" in cookie
        assert keys["owner"] not in cookie
    assert before.split(";")[0] != after.split(";")[0], "the session must change at the sign-in"


def test_signing_out_ends_the_session(visit):
    browser = visit("owner")
    cookies = dict(browser.http.cookies)
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    browser.http.cookies.update(cookies)
    assert browser.get("/files").status_code == 303


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_sign_in_does_not_redirect_to_another_site(visit, keys, address):
    assert visit("").sign_in(keys["owner"], next_page=address).headers["location"] == "/"


def test_a_revoked_key_ends_its_sessions(make_key, visit, engine):
    import time

    from tunesmith.engine.security.keys import revoke_key
    from tunesmith.engine.store.database import Database

    key_id, secret = make_key("member")
    browser = visit("")
    browser.sign_in(secret)
    assert browser.get("/files").status_code == 200
    database = Database(f"sqlite:///{engine.home.database}")
    revoke_key(database, key_id)
    database.close()
    time.sleep(1.1)
    assert browser.get("/files").status_code == 303
    assert browser.get("/dashboard/v1/files").status_code == 401


def test_keys_are_in_no_log(engine, visit, keys):
    visit("owner").get("/")
    log = engine.log_path.read_text(encoding="utf-8")
    assert "POST /sign-in" in log
    assert not any(key in log for key in keys.values())
