"""What single destinations accept: rows beside their own validators, models, images, marks.

`cases/foreign-verdicts.json` holds rows and whether the validators of together 2.5.0 and of
mistral-finetune (June 2026, with mistral-common 1.13.1) accept them: they were run on these rows.
"""

from __future__ import annotations

import base64
import codecs
import json
from pathlib import Path

import pytest

from tunesmith.datasets import PROFILES, Dataset, check_file, read
from tunesmith.datasets.prepare import prepare_data

VERDICTS = json.loads((Path(__file__).parent / "cases" / "foreign-verdicts.json").read_text())

# What the validator does not look at, but what no service of the format can learn from: ids, types
# and names of calls, arguments, and keys that hold another type than the format says.
STRICTER = {
    "together": {
        *("no id", "args object", "args missing", "bad name", "long name", "tool no id"),
        *("tool params list", "tools null", "name number", "empty parts"),
    },
    "mistral-finetune": {
        *("weight null", "tools null", "name number", "empty parts"),
        *("image local", "image gif", "image system"),
    },
}


def errors(rows, profile="openai", **options):
    report = Dataset.from_rows(rows).check(profile, **options)
    return {finding.id for finding in report.errors} - {"rows-too-few", "file-empty"}


@pytest.mark.parametrize("profile", STRICTER)
@pytest.mark.parametrize("name", VERDICTS)
def test_a_profile_agrees_with_the_validator_of_its_destination(name, profile):
    case = VERDICTS[name]
    if profile not in case:
        pytest.skip("the validator has no such rows")
    found = errors([case["row"]], profile)
    if case[profile]:
        assert bool(found) == (name in STRICTER[profile]), found
    else:
        assert found or Dataset.from_rows([case["row"]]).check(profile).errors


def pair(number):
    return {"prompt": f"question {number} ->", "completion": f" answer {number}\n"}


def talk(number, content="hi"):
    return {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    }


PAIRS = [pair(number) for number in range(12)]
TALKS = [talk(number) for number in range(12)]


@pytest.mark.parametrize("profile", ["openai", "azure"])
@pytest.mark.parametrize(
    ("model", "rows", "fits"),
    [
        ("gpt-4o", TALKS, True),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", TALKS, True),
        ("davinci-002", PAIRS, True),
        ("gpt-4o", PAIRS, False),
        ("davinci-002", TALKS, False),
        ("curie:ft-org-2023-01-01", TALKS, False),
    ],
)
def test_the_model_is_held_to_the_row_format(profile, model, rows, fits):
    assert errors(rows, profile, model=model) == (set() if fits else {"model-shape"})


def warnings(rows, profile, **options):
    return {
        finding.id: finding
        for finding in Dataset.from_rows(rows).check(profile, **options).warnings
    }


@pytest.mark.parametrize(
    ("model", "date"),
    [
        ("davinci", "4 January 2024"),
        ("davinci-002", "23 October 2026"),
        ("gpt-3.5-turbo-0125", "23 October 2026"),
        ("ft:gpt-4.1-nano-2025-04-14:org::id", "23 October 2026"),
        ("gpt-4o-2024-05-13", "23 October 2026"),
        ("gpt-4o-2024-08-06", ""),
        ("gpt-4.1-mini", ""),
    ],
)
def test_a_model_that_is_gone_is_named_with_its_date(model, date):
    rows = PAIRS if model.startswith("davinci") else TALKS
    found = warnings(rows, "openai", model=model)
    assert ("model-retired" in found) == bool(date)
    if date:
        assert found["model-retired"].message.endswith(f"{model} at openai, since {date}")


def test_the_limit_of_a_profile_is_that_of_models_that_exist():
    long = [{"prompt": f"{n} " + "word " * 3_000 + "->", "completion": " yes\n"} for n in range(12)]
    found = warnings(long, "openai")
    assert "token-limit" not in found
    assert "since 23 October 2026" in found["shape-retired"].message
    assert "token-limit" in warnings(long, "openai", model="ada")


def test_the_hosted_service_of_mistral_is_retired_and_the_message_names_the_way_out():
    (found,) = (
        f
        for f in Dataset.from_rows(TALKS).check("mistral").findings
        if f.count and "retired" in f.id
    )
    assert found.severity == "error"
    assert "no longer offers hosted fine-tuning (as of November 2026)" in found.message
    assert "'mistral-finetune'" in found.message
    assert errors(TALKS, "mistral-finetune") == set()


def test_every_profile_has_a_date_and_sources():
    for profile in PROFILES.values():
        assert profile.as_of == "2026-11"
        assert profile.sources


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
BIG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(10 * 1024 * 1024)).decode()


def image(url=f"data:image/png;base64,{PNG}", **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    "part",
    [
        image(),
        image(f"data:image/PNG;base64,{PNG}", detail="low"),
        image("https://example.com/cat.gif"),
        image("HTTP://example.com/cat.png", detail="high"),
    ],
)
def test_an_image_that_services_accept_is_no_finding(part):
    assert errors([talk(n, [part]) for n in range(12)]) == set()


@pytest.mark.parametrize(
    ("part", "rule", "reason"),
    [
        (image("/home/ann/cat.png"), "image-source", "files on this machine"),
        (image("file:///home/ann/cat.png"), "image-source", "files on this machine"),
        (image("C:\\cat.png"), "image-source", "files on this machine"),
        (image(PNG), "image-source", "neither an address"),
        (image(f"data:image/png,{PNG}"), "image-source", "base64"),
        (image("data:image/png;base64,a!b"), "image-source", "not valid base64"),
        (image("data:image/gif;base64,R0lGODdh"), "image-type", "'image/gif'; it must be one of"),
        (image(f"data:image/jpeg;base64,{PNG}"), "image-type", "is 'image/png', but is called"),
        (image("data:image/png;base64,aGVsbG8="), "image-type", "not PNG"),
        (image(f"data:image/png;base64,{BIG}"), "image-size", "more than 10,485,760"),
        (image(detail="medium"), "image-detail", "auto, low, high, not 'medium'"),
        (image(detail=None), "image-detail", "not null"),
    ],
)
def test_an_image_that_services_refuse_is_an_error_with_its_place(part, rule, reason):
    report = Dataset.from_rows([talk(n, [part]) for n in range(12)]).check("openai")
    found = next(finding for finding in report.errors if finding.id == rule)
    assert reason in found.message
    assert found.examples[0].path.startswith("$.messages[0].content[0].image_url.")


@pytest.mark.parametrize(("profile", "limit"), [("openai", 64), ("azure", 64), ("together", 10)])
def test_a_row_has_no_more_images_than_the_destination_accepts(profile, limit):
    asked = {"role": "user"}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}
    for count in (limit, limit + 1):
        rows = [
            {"messages": [asked | {"content": [image()] * count}, answer | {"name": f"n{n}"}]}
            for n in range(12)
        ]
        assert errors(rows, profile) == ({"images-too-many"} if count > limit else set())


def test_azure_refuses_a_call_that_no_tool_message_answers():
    row = VERDICTS["unanswered"]["row"]
    assert "tool-call-unanswered" in errors([row], "azure")
    assert "tool-call-unanswered" not in errors([row], "openai")


def test_the_mark_that_azure_requires_is_written(tmp_path):
    path = Dataset.from_rows(TALKS).write(tmp_path / "train.jsonl", byte_order_mark=True)
    assert path.read_bytes().startswith(codecs.BOM_UTF8 + b'{"messages"')
    found = {finding.id for finding in check_file(path, "azure").findings}
    assert not found & {"file-bom-missing", "file-bom", "json-syntax"}
    assert len(read(path)) == 12
    plain = Dataset.from_rows(TALKS).write(tmp_path / "plain.jsonl")
    missing = next(f for f in check_file(plain, "azure").findings if f.id == "file-bom-missing")
    assert "byte_order_mark=True" in missing.fix


class Yes:
    def say(self, text):
        pass

    def ask(self, question, *, default):
        return bool(question) and default


def test_prepared_files_can_have_the_mark(tmp_path):
    source = tmp_path / "data.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    prepared = prepare_data(source, Yes(), byte_order_mark=True)
    assert prepared.training.read_bytes().startswith(codecs.BOM_UTF8)


def test_report_ids_of_other_services_are_refused_by_mistral_finetune():
    # opencode#1680: call_PTLP8xhu3uwZk4l3nlnrrJha
    row = VERDICTS["call id openai"]["row"]
    report = Dataset.from_rows([row]).check("mistral-finetune")
    found = next(finding for finding in report.errors if finding.id == "tool-call-id-form")
    assert found.count == 2
    assert "must be nine letters or digits" in found.message


def test_report_a_file_with_a_mark_is_named_where_it_is_refused(tmp_path):
    # OpenAI-API-dotnet#59: "Line 1 is not a dictionary (HINT: line starts with: \"{\"p...\")"
    path = Dataset.from_rows(TALKS).write(tmp_path / "train.jsonl", byte_order_mark=True)
    found = {finding.id: finding for finding in check_file(path, "openai").warnings}
    assert "save the file as plain UTF-8" in found["file-bom"].message
    assert "file-bom" not in {finding.id for finding in check_file(path, "azure").findings}


def test_report_a_column_that_together_does_not_know_is_refused():
    # together-python#220
    rows = [talk(number) | {"source": "web"} for number in range(12)]
    assert errors(rows, "together") == {"column-refused"}
    assert errors(rows, "engine") == set()
