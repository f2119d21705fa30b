"""Jobs side by side, tags and notes, and the page of one model."""

from __future__ import annotations

import html
import json
import re

import pytest


@pytest.fixture(scope="module")
def second(api, trained, wait_for):
    body = {
        "training_file": trained["training_file"],
        "model": "tiny",
        "suffix": "moods-again",
        "hyperparameters": {"n_epochs": 1, "batch_size": 4},
    }
    made = api.post("fine_tuning/jobs", json=body)
    return wait_for(made.json()["id"], lambda job: job["status"] == "succeeded")


def test_what_differs_is_marked_and_curves_lie_over_each_other(owner, trained, second):
    page = owner.get("/compare", params={"job": [trained["id"], second["id"]]}).text
    rows = dict(re.findall(r"<tr( class=\"differs\")?><th scope=\"row\">([\w ,]+)", page)[::-1])
    assert rows is not None
    differing = re.findall(r'class="differs"><th scope="row">([^<]+)', page)
    assert {"n_epochs", "batch_size", "Steps"} <= set(differing)
    assert "Model" not in differing
    curves = json.loads(html.unescape(re.search(r'data-jobs="([^"]+)"', page)[1]))
    assert [one["label"] for one in curves] == ["moods", "moods-again"]
    for one in curves:
        assert owner.get(f"/jobs/{one['id']}/series").json()["steps"]


def test_no_job_many_jobs_and_wrong_jobs(owner, visit, trained):
    assert "Choose jobs to compare" in owner.get("/compare").text
    assert owner.get("/compare?job=ftjob-none").status_code == 404
    assert visit("stranger").get(f"/compare?job={trained['id']}").status_code == 404
    twice = owner.get("/compare", params={"job": [trained["id"]] * 3}).text
    assert twice.count('class="key-') == 1


def test_tags_and_note_are_kept_with_the_job_and_found(owner, api, second):
    path = f"/jobs/{second['id']}"
    sent = owner.post(
        f"{path}/notes", tags="short prompts, <b>bold</b>, short prompts", note="loss still falls"
    )
    assert sent.status_code == 303
    metadata = api.get(f"fine_tuning/jobs/{second['id']}").json()["metadata"]
    assert metadata == {"tags": "short prompts, <b>bold</b>", "note": "loss still falls"}
    page = owner.get(path).text
    assert "loss still falls" in page
    assert "<b>bold" not in page
    for text in ("short prom", "still falls"):
        found = owner.get("/", params={"text": text}).text
        assert path in found
    assert "No job fits" in owner.get("/", params={"text": "no such tag"}).text
    too_long = owner.post(f"{path}/notes", note="x" * 600)
    assert too_long.status_code == 400
    owner.post(f"{path}/notes", tags="", note="")
    assert api.get(f"fine_tuning/jobs/{second['id']}").json()["metadata"] is None


def test_a_models_page_has_its_card_format_checkpoints_and_request(owner, member, api, trained):
    name = trained["fine_tuned_model"]
    page = owner.get("/models/show", params={"model": name}).text
    assert "Checkpoints" in page
    assert "&#34; -&gt;&#34;" in page, "the separator"
    assert "ask for one token" in page
    assert f"/exports/new?model={name.replace(':', '%3A')}" in page
    assert "Add the name" not in member.get("/models/show", params={"model": name}).text
    request = json.loads(html.unescape(re.search(r'data-request="([^"]+)"', page)[1]))
    assert request["prompt"] == "Your prompt ->"
    assert api.post("completions", json=request).status_code == 200
    missing = owner.get("/models/show?model=%3Cscript%3E")
    assert missing.status_code == 404
    assert "<script>" not in missing.text


def test_another_name_leads_to_a_model(owner, member, api, trained):
    name = trained["fine_tuned_model"]
    refused = owner.post("/models/alias", model=name, name=name)
    assert refused.status_code == 400
    assert 'id="problem-name"' in refused.text
    assert owner.post("/models/alias", model=name, name=" ").status_code == 400
    assert member.post("/models/alias", model=name, name="old-name").status_code == 400
    assert owner.post("/models/alias", model=name, name="old-name").status_code == 303
    assert "old-name" in owner.get("/models/show", params={"model": name}).text
    answer = api.post("completions", json={"model": "old-name", "prompt": "a", "max_tokens": 1})
    assert answer.status_code == 200
    api.delete("model_routes/old-name")


@pytest.mark.parametrize("path", ["/no-such-page", "/jobs/x/y/z", "/models/none", "/Playground"])
def test_every_wrong_address_is_a_page_with_a_way_back(owner, path):
    answer = owner.get(path, headers={"accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 404
    assert 'href="/playground"' in answer.text
    assert "There is no page" in answer.text


def test_programs_get_json_as_before(owner, api):
    assert api.get("no-such-thing").json()["error"]
    assert owner.get("/no-such-page", headers={"accept": "*/*"}).json()
    assert api.get("completions").status_code == 405
