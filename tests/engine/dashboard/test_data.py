"""Data before training: findings by line, fixes to accept or not, rows as the model sees them."""

from __future__ import annotations

import html
import io
import json
import re
import time
import zipfile
from pathlib import Path

import pytest

from tunesmith.engine.jobs.data_preparation import DataExaminer, ExaminationError

MESSY = (
    "text,label\n"
    + "".join(f"I love the {thing} {n},positive\n" for n in range(10) for thing in ("sea", "city"))
    + "".join(f"I hate the {thing} {n},negative\n" for n in range(10) for thing in ("sea", "city"))
    + "I love the sea 0,positive\n<script>alert(1)</script>,positive\nno label here,\n"
)
LAST_LINE = MESSY.count("\n")
JSONL = '{"prompt": "a %d ->", "completion": " b"}\n'


@pytest.fixture(scope="module")
def messy(upload):
    return upload("messy <img src=x>.csv", MESSY, purpose="user_data")


def findings(browser, file_id, **query):
    answer = browser.get(f"/data/{file_id}/findings", params=query, headers={"hx-request": "true"})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_findings_name_lines_and_fixes_can_be_refused(owner, messy):
    page = findings(owner, messy)
    assert f"line {LAST_LINE}: the completion is empty" in page
    assert "Drop rows that repeat an earlier one" in page
    assert 'value="drop-duplicates" checked' in page
    assert re.search(r'<dd class="num">41 <span class="muted">of 43', page), (
        "one repeats, one is empty"
    )
    kept = findings(owner, messy, proposed=["drop-duplicates"], fix=[])
    assert 'value="drop-duplicates" id' in kept, "it is offered, and not ticked"
    assert "Write the data and set up a job" in kept


def test_rows_are_shown_as_the_model_sees_them(owner, messy):
    page = findings(owner, messy)
    learned = [html.unescape(text) for text in re.findall(r'token learned">([^<]*)', page)]
    assert learned[1:] == ["·positive"] * 5, "the first is the legend"
    assert "<script>alert" not in page
    assert "⏎" in page, "the separator is in sight"


def test_what_was_accepted_is_written_split_and_chosen_for_a_job(owner, api, messy):
    sent = owner.http.post(
        f"/data/{messy}/prepare",
        data={
            "form_token": owner.token(),
            "hold_out": "0.2",
            "proposed": ["drop-duplicates", "separator"],
            "fix": ["separator"],
        },
    )
    assert sent.status_code == 303, sent.text
    address = sent.headers["location"]
    ids = re.findall(r"file-\w+", address)
    rows = [api.get(f"files/{one}/content").text.splitlines() for one in ids]
    assert sum(map(len, rows)) == 42, "the repeated row was kept"
    assert 6 <= len(rows[1]) <= 10
    assert {json.loads(row)["completion"] for row in rows[0]} == {" positive", " negative"}
    form = owner.get(address).text
    for one in ids:
        assert f'<option value="{one}" selected>' in form
    assert "messy &lt;img src=x&gt;_train.jsonl" in form


def test_columns_are_asked_for_where_names_do_not_tell(owner, upload):
    file_id = upload("odd.csv", 'one,"""><script>"\n' + "a,b\n" * 30, purpose="user_data")
    page = findings(owner, file_id)
    assert "Choose the column that holds the prompts" in page
    assert "Write the data" not in page
    assert "<script>" not in page
    page = findings(owner, file_id, prompt="one", completion='"><script>')
    assert "What was found in the file" in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat.json", json.dumps([{"conversations": [{"from": "human", "value": f"a {n}"}, {"from": "gpt", "value": f"b {n}"}]} for n in range(12)])),  # noqa: E501
        ("rows.tsv", "prompt\tcompletion\n" + "".join(f"a {n}\tb {n}\n" for n in range(12))),
        ("rows.jsonl", "".join(JSONL % n for n in range(12))),
    ],
)  # fmt: skip
def test_formats_are_read_and_converted(owner, upload, name, content):
    page = findings(owner, upload(name, content, purpose="user_data"))
    assert "Write the data and set up a job" in page


def bomb() -> bytes:
    """Return a workbook of a few kilobytes with a sheet of hundreds of megabytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
        with archive.open("xl/worksheets/sheet1.xml", "w") as sheet:
            for _ in range(200):
                sheet.write(b"<row><c><v>1</v></c></row>" * 40_000)
    return made.getvalue()


HOSTILE = {
    "deep.json": b"[" * 100_000,
    "bomb.xlsx": bomb(),
    "not-a-workbook.xlsx": b"PK\x03\x04" + b"\0" * 100,
    "not-parquet.parquet": b"PAR1" + b"\xff" * 500,
    "broken.jsonl": b'{"prompt": "a"\n\xff\xfe{{{\n',
    "..": b"text,label\na,b\n",
    "quotes.csv": b'a,"b\n' * 1000,
    "nothing.csv": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_a_page_and_no_way_to_train(owner, api, name):
    answer = api.post("files", data={"purpose": "user_data"}, files={"file": (name, HOSTILE[name])})
    page = findings(owner, answer.json()["id"])
    assert "Traceback" not in page
    assert "Write the data" not in page
    assert owner.get("/").status_code == 200


def test_a_file_that_takes_too_long_ends_with_its_process(tmp_path, tiny_base_model):
    examiner = DataExaminer(1, 1 << 20)
    began = time.monotonic()
    with pytest.raises(ExaminationError, match="longer than 1 s of processor time"):
        examiner.costs(tiny_base_model, 100)  # loads torch
    assert time.monotonic() - began < 60
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(JSONL % n for n in range(12)), encoding="utf-8")
    found = DataExaminer(60, 1 << 20).examine(path, "../../rows.jsonl", {})
    assert found["ok"], "and the next file is examined as if nothing had been"


def test_the_process_sees_no_secret_of_the_server(monkeypatch):
    from tunesmith.engine.jobs.data_preparation import _environment

    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", "postgresql://user:secret@host/db")
    assert "secret" not in " ".join(_environment(Path("folder")).values())


def test_files_of_others_are_not_there(visit, messy):
    stranger = visit("stranger")
    for path in (f"/data/{messy}", f"/data/{messy}/findings"):
        assert stranger.get(path).status_code == 404
    assert stranger.post(f"/data/{messy}/prepare").status_code == 404


# --- the form of a new job ---


@pytest.fixture(scope="module")
def good(upload):
    return upload("good.jsonl", "".join(JSONL % n for n in range(30)))


@pytest.fixture(scope="module")
def broken(upload):
    return upload("broken.jsonl", JSONL % 1 + '{"prompt": "a ->"}\n')


def plan(browser, **query):
    return browser.get("/new-job/plan", params={"model": "tiny", **query}).text


def test_no_file_is_chosen_silently(owner, good):
    form = owner.get("/new-job").text
    assert good in form
    field = form[form.index('id="training_file"') : form.index('id="validation_file"')]
    assert '<option value="">Choose a file</option>' in field
    assert "selected" not in field


def test_what_is_broken_gets_no_button(owner, api, broken, good):
    assert 'type="submit"' not in plan(owner)
    page = plan(owner, training_file=broken)
    assert "line 2" in page
    assert f'href="/data/{broken}"' in page
    assert 'type="submit"' not in page
    assert 'type="submit"' not in plan(owner, training_file=good, validation_file=broken)
    before = len(api.get("fine_tuning/jobs").json()["data"])
    refused = owner.post("/new-job", training_file=good, validation_file=broken, model="tiny")
    assert refused.status_code == 400
    assert re.search(r'id="problem-validation_file"[^>]*>This file cannot', refused.text)
    assert len(api.get("fine_tuning/jobs").json()["data"]) == before


def test_rows_time_and_memory_are_known_before_the_start(owner, good):
    page = plan(owner, training_file=good, n_epochs="2", batch_size="10")
    assert '<dt>Rows</dt><dd class="num">30</dd>' in page
    assert "Create the job" in page
    address = html.unescape(re.search(r'hx-get="(/new-job/estimate[^"]+)"', page)[1])
    estimate = owner.get(address).text
    assert re.search(r"<dt>Steps</dt><dd class=\"num\">6<", estimate), estimate
    assert "<dt>Time, about</dt>" in estimate
    assert "<dt>Memory, about</dt>" in estimate


def test_each_error_stands_beside_its_field(owner):
    answer = owner.post(
        "/new-job",
        training_file="",
        model="tiny",
        n_epochs="many",
        batch_size="0",
        learning_rate_multiplier="-1",
        suffix="x" * 100,
    )
    assert answer.status_code == 400
    found = dict(re.findall(r'id="problem-(\w+)"[^>]*>([^<]+)<', answer.text))
    assert found == {
        "training_file": "Choose a file to train on.",
        "n_epochs": "Enter a whole number from 1 to 50, or nothing.",
        "batch_size": "Enter a whole number from 1 to 256, or nothing.",
        "learning_rate_multiplier": "Enter a number above 0, or nothing.",
        "suffix": "Enter at most 64 characters, with classification metrics at most 40.",
    }
    for name in found:
        assert f'aria-describedby="problem-{name}"' in answer.text


def test_several_values_make_a_job_each_and_too_many_are_refused(owner, api, good):
    assert "Create 4 jobs" in plan(owner, training_file=good, n_epochs="1, 2", batch_size="5,10")
    values = {"training_file": good, "model": "tiny", "batch_size": "10"}
    refused = owner.post("/new-job", **values, n_epochs=",".join(map(str, range(1, 14))))
    assert "more than 12 jobs" in refused.text
    sent = owner.post("/new-job", **values, n_epochs="1, 2", suffix="swept", tags="a, b")
    assert sent.status_code == 303
    ids = re.findall(r"job=(ftjob-\w+)", sent.headers["location"])
    jobs = [api.get(f"fine_tuning/jobs/{one}").json() for one in ids]
    assert [job["hyperparameters"]["n_epochs"] for job in jobs] == [1, 2]
    assert len({job["metadata"]["tags"] for job in jobs}) == 1
    assert len({job["seed"] for job in jobs}) == 1, "nothing else differs"
    assert jobs[0]["metadata"]["tags"].startswith("a, b, sweep ")
    again = owner.get(f"/new-job?like={ids[1]}").text
    assert 'name="n_epochs" value="2"' in again
    assert 'name="suffix" value="swept"' in again
    assert f'<option value="{good}" selected>' in again
    for one in ids:
        api.post(f"fine_tuning/jobs/{one}/cancel")
