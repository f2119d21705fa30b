"""What the pages show, to whom, and that nothing of a user's text is taken for markup."""

from __future__ import annotations

import html
import re
import time

import pytest

HOSTILE_MARK = "<img src=x"


def test_the_list_shows_a_finished_job(owner, trained):
    page = owner.get("/").text
    assert "moods" in page
    assert "Succeeded" in page
    assert trained["fine_tuned_model"] in page


@pytest.mark.parametrize(
    ("query", "is_listed"),
    [
        ("status=succeeded", True),
        ("status=failed", False),
        ("status=unfinished&text=moods", False),
        ("text=mood", True),
        ("text=MOOD", True),
        ("text=%25", False),
        ("text=_oods", False),
        ("text=no%20such", False),
    ],
)
def test_filters(owner, trained, query, is_listed):
    page = owner.get(f"/?{query}").text
    assert (f"/jobs/ft-{trained['id'].removeprefix('ftjob-')}" in page) is is_listed
    assert ("No job fits" in page) is not is_listed or "text=" not in query


@pytest.mark.usefixtures("trained")
def test_an_unchanged_list_is_not_sent_again(owner):
    page = owner.get("/?text=moods").text
    address = html.unescape(re.search(r'hx-get="([^"]+)"', page)[1])
    headers = {"hx-request": "true"}
    assert owner.get(address, headers=headers).status_code == 204
    changed = owner.get(re.sub(r"version=\w+", "version=0", address), headers=headers)
    assert changed.status_code == 200
    assert "<html" not in changed.text


def test_a_job_with_its_messages_values_and_files(owner, trained):
    page = owner.get(f"/jobs/{trained['id']}").text
    for words in (
        "Fine-tune succeeded",
        "Completed epoch 2/2",
        "compiled_results.csv",
        "n_<wbr>epochs",
    ):
        assert words in page
    assert "Step 1/" not in page
    assert "Step 1/" in owner.get(f"/jobs/{trained['id']}?steps=true").text
    assert 'hx-trigger="every' not in page, "a job that has ended is not polled"


def test_the_points_of_the_curves_are_sent_whole_or_after_an_event(owner, trained):
    path = f"/jobs/{trained['id']}/series"
    whole = owner.get(path).json()
    assert whole["steps"] == list(range(1, 17))
    assert whole["total_steps"] == 16
    assert all(len(values) == 16 for values in whole["metrics"].values())
    assert None not in whole["metrics"]["train_loss"]
    assert whole["metrics"]["classification/accuracy"].count(None) == 14
    rest = owner.get(f"{path}?after={whole['last'] - 8}").json()
    assert rest["steps"][-1] == 16
    assert 0 < len(rest["steps"]) < 16
    assert owner.get(f"{path}?after={whole['last']}").json()["steps"] == []


def test_the_metrics_as_a_table(owner, trained):
    page = owner.get(f"/jobs/{trained['id']}/metrics").text
    assert page.count("<tr>") == 17
    assert "train_mean_token_accuracy" in page


def test_names_are_escaped(owner, trained):
    for path in ("/files", f"/jobs/{trained['id']}", "/new-job"):
        page = owner.get(path).text
        assert HOSTILE_MARK not in page, path
        assert "&lt;img src=x onerror=alert(1)&gt;" in page, path
        assert "{{7*7}}" in page, path


def test_searches_and_errors_are_escaped(owner):
    for path in ("/", "/jobs/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "/playground", "/new-job"):
        query = "text=%22%3E%3Cscript%3Ealert(1)&model=%22%3E%3Cscript%3E&file=%22%3E%3Cscript%3E"
        page = owner.get(f"{path}?{query}").text
        assert "<script>" not in page
        assert '"><script' not in page


def test_other_organisations_see_none_of_it(visit, trained):
    stranger = visit("stranger")
    assert "No jobs yet" in stranger.get("/").text
    assert stranger.get(f"/jobs/{trained['id']}").status_code == 404
    assert stranger.get(f"/jobs/{trained['id']}/series").status_code == 404
    assert stranger.post(f"/jobs/{trained['id']}/cancel").status_code == 404
    assert trained["fine_tuned_model"] not in stranger.get("/models").text
    assert trained["training_file"] not in stranger.get("/files").text


def test_a_file_is_downloaded_as_a_file(owner, trained):
    answer = owner.get(f"/dashboard/v1/files/{trained['training_file']}/content")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"I love the phone" in answer.content


def test_an_ended_job_cannot_be_cancelled(owner, trained):
    answer = owner.post(f"/jobs/{trained['id']}/cancel")
    assert answer.status_code == 400
    assert "already succeeded" in answer.text


def test_the_form_names_the_wrong_value_and_keeps_the_others(owner, upload):
    file_id = upload("form.jsonl")
    answer = owner.post(
        "/new-job", training_file=file_id, model="tiny", suffix="kept", n_epochs="many"
    )
    assert answer.status_code == 400
    assert 'value="kept"' in answer.text
    assert 'value="many"' in answer.text
    assert 'id="problem-n_epochs"' in answer.text
    assert "Enter a whole number from 1 to 50" in answer.text
    answer = owner.post("/new-job", training_file="file-none", model="tiny")
    assert "No such file" in answer.text


def test_pause_resume_and_cancel(owner, upload):
    answer = owner.post(
        "/new-job",
        training_file=upload("long.jsonl"),
        model="tiny",
        suffix="long",
        n_epochs="50",
        batch_size="1",
    )
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"]
    live = html.unescape(re.search(r'hx-get="(/jobs/[^"]+live[^"]+)"', owner.get(path).text)[1])
    assert owner.post(f"{path}/pause").headers["location"] == path
    update = owner.get(live, headers={"hx-request": "true"})
    assert "Paused" in update.text
    assert "The job is now: Paused." in update.text
    assert "Resume" in owner.get(path).text
    assert owner.post(f"{path}/resume").status_code == 303
    assert owner.post(f"{path}/cancel").status_code == 303
    page = owner.get(path).text
    assert "was cancelled" in page
    assert "Cancelled" in page


@pytest.mark.usefixtures("trained")
def test_only_an_owner_deletes_a_model(member, owner, api):
    checkpoint = next(
        model["id"] for model in api.get("models").json()["data"] if ":ckpt-step-" in model["id"]
    )
    assert "Only an owner" in member.get("/models").text
    refused = member.post("/models/delete", model=checkpoint)
    assert refused.status_code == 403
    assert "role" in refused.text
    through = member.http.delete(
        f"/dashboard/v1/models/{checkpoint}", headers={"x-form-token": member.token()}
    )
    assert through.status_code == 403
    assert owner.post("/models/delete", model=checkpoint).status_code == 303
    assert checkpoint not in owner.get("/models").text


def test_a_file_in_use_stays(owner, api, upload):
    file_id = upload("used.jsonl")
    job = api.post("fine_tuning/jobs", json={"training_file": file_id, "model": "tiny"}).json()
    refused = owner.post(f"/files/{file_id}/delete")
    assert refused.status_code == 400
    assert "is needed by the job" in refused.text
    api.post(f"fine_tuning/jobs/{job['id']}/cancel")
    assert owner.post(f"/files/{file_id}/delete").status_code == 303
    assert file_id not in owner.get("/files").text


def test_the_error_of_a_failed_job_is_escaped(owner, api, upload):
    body = {
        "training_file": upload("<script>alert(1)</script>.jsonl", '{"<i>": "</i>"}\n'),
        "model": "tiny",
        "metadata": {"<b>key": "<script>alert(2)</script>"},
    }
    job_id = api.post("fine_tuning/jobs", json=body).json()["id"]
    deadline = time.monotonic() + 180
    while api.get(f"fine_tuning/jobs/{job_id}").json()["status"] != "failed":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for path in (f"/jobs/{job_id}", "/", "/files"):
        page = owner.get(path).text
        assert "<script>alert" not in page, path
        assert "<b>key" not in page, path
    page = owner.get(f"/jobs/{job_id}").text
    assert "The job failed." in page
    assert "&lt;script&gt;alert(2)" in page
