"""What changes something must come from a page of the same session."""

from __future__ import annotations

import pytest


def test_a_form_without_its_token_is_refused(owner, trained):
    path = f"/jobs/{trained['id']}/cancel"
    assert owner.post(path, token="").status_code == 403
    assert owner.post(path, token="0" * 64).status_code == 403
    assert owner.http.post(path).status_code == 403


def test_a_form_of_another_session_is_refused(owner, member, trained):
    answer = member.post(f"/jobs/{trained['id']}/cancel", token=owner.token())
    assert answer.status_code == 403
    assert "does not belong to your session" in answer.text


def test_a_form_of_another_site_is_refused_even_with_the_token(owner, trained):
    answer = owner.http.post(
        f"/jobs/{trained['id']}/cancel",
        data={"form_token": owner.token()},
        headers={"sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403


def test_the_api_under_a_session_needs_a_session(visit):
    answer = visit("").get("/dashboard/v1/files")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "session_ended"


def test_the_api_under_a_session_needs_the_token_for_changes(owner, upload):
    file_id = upload("spare.jsonl")
    path = f"/dashboard/v1/files/{file_id}"
    assert owner.get(path).json()["id"] == file_id
    assert owner.http.delete(path).status_code == 403
    answer = owner.http.delete(path, headers={"x-form-token": owner.token()})
    assert answer.json()["deleted"] is True


def test_the_api_itself_accepts_no_cookie(owner):
    assert owner.get("/v1/files").status_code == 401


def test_an_upload_through_the_session(owner):
    answer = owner.http.post(
        "/dashboard/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("session.jsonl", b'{"prompt": "a ->", "completion": " b"}\n')},
        headers={"x-form-token": owner.token()},
    )
    assert answer.json()["filename"] == "session.jsonl"
    assert "session.jsonl" in owner.get("/files").text


@pytest.mark.parametrize(
    "path", ["/", "/files", "/stored", "/models", "/playground", "/new-job", "/sign-in"]
)
def test_pages_allow_no_script_or_style_but_their_own(owner, path):
    answer = owner.get(path, follow_redirects=True)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<style" not in answer.text
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text
    assert all(tag.startswith(' src="/static/') for tag in answer.text.split("<script")[1:])
    assert answer.headers["cache-control"] == "no-store"


def test_static_files_are_cached_by_content_and_do_not_escape_their_folder(visit):
    import re

    browser = visit("")
    address = re.search(r"/static/style\.css\?v=\w+", browser.get("/sign-in").text)[0]
    answer = browser.get(address)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert browser.get("/static/..%2Fbrowser_session.py").status_code == 404
    assert browser.get("/static/%2e%2e/browser_session.py").status_code == 404
