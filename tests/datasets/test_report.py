"""How a report is shown: for people, for programs, for code scanning, for notebooks."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from tunesmith import datasets
from tunesmith.datasets.findings import excerpt_of
from tunesmith.datasets.rules import RULES


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "<rows>|`a`.jsonl"
    rows = [json.dumps({"prompt": f"{n} ->", "completion": f" {n} END"}) for n in range(40)]
    rows[6] = '{"prompt": "<script>alert(1)</script> | `x` *y*", "completion": 1}'
    rows[8] = '{"prompt": "\x1b[31mred"'
    rows[9] = '{"prompt": "' + "长" * 200 + ' ->", "completion": " 1 END END"}'
    rows[12:20] = ["{"] * 8
    path.write_text("\n".join(rows), encoding="utf-8")
    return datasets.check_file(path)


def test_json_has_the_published_shape(report):
    data = json.loads(report.to_json())
    assert data["ok"] is False
    assert data["counts"]["error"] == len(report.errors)
    by_id = {finding["id"]: finding for finding in data["findings"]}
    wrong_type = by_id["field-type"]
    assert wrong_type["severity"] == "error"
    assert wrong_type["count"] == 1
    (location,) = wrong_type["examples"]
    assert location["line"] == 7
    assert isinstance(location["byte_offset"], int)
    assert location["path"] == "$.completion"
    assert report.to_json().isascii()


def test_every_finding_has_a_rule_and_a_severity(report):
    for finding in report.findings:
        assert finding.id in RULES
        assert finding.severity in {"error", "warning", "info"}


@pytest.mark.parametrize("width", [40, 72, 120])
def test_text_keeps_to_the_width_and_caps_its_lists(report, width):
    text = report.to_text(width)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= max(width, 40)
    assert "… and 4 more" in text
    assert "error json-syntax" in text


def test_colour_is_only_there_when_asked_for(report):
    assert "\x1b[31merror json-syntax\x1b[0m" in report.to_text(colour=True)
    assert "\x1b" not in str(report)


def test_errors_come_first_and_the_first_error_stands_first_in_the_file(report):
    ranks = [finding.severity for finding in report.findings]
    assert ranks == sorted(ranks, key=["error", "warning", "info"].index)
    assert report.first_error().examples[0].line == 7
    assert report.exit_code == 1


def test_markdown_escapes_what_the_data_says(report):
    text = report.to_markdown()
    assert "| error | `json-syntax` | 9 |" in text
    assert "<script>" not in text.replace("`` ", "").split("### `field-type`")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_sarif_points_to_lines(report):
    log = report.to_sarif()
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
    broken = next(result for result in run["results"] if result["ruleId"] == "json-syntax")
    region = broken["locations"][0]["physicalLocation"]["region"]
    assert region["startLine"] == 9
    assert region["startColumn"] >= 1
    uri = broken["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.startswith("file://")
    assert "<" not in uri
    json.dumps(log)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        del attrs
        self.tags.append(tag)


def test_html_escapes_what_the_data_says(report):
    parser = Tags()
    parser.feed(report._repr_html_())
    assert set(parser.tags) <= {
        "div", "p", "strong", "details", "summary", "span", "code", "ul", "li", "br",
    }  # fmt: skip


def test_a_clean_report_says_so():
    rows = [{"prompt": f"{n} ->", "completion": f" {n} END"} for n in range(600)]
    report = datasets.Dataset.from_rows(rows).check()
    assert report.ok
    assert report.exit_code == 0
    assert report.first_error() is None
    assert "No findings." in str(report)
    assert "No findings." in report.to_markdown()
    assert "No findings." in report._repr_html_()
    assert report.to_sarif()["runs"][0]["results"] == []


def test_excerpts_are_short_and_printable():
    text = excerpt_of("a\nb\t\x00\x1b[31m\ud83d" + "x" * 500)
    assert text.startswith("a\\nb\\t\\x00\\x1b[31m\\ud83d")
    assert text.endswith("…")
    assert text.isprintable()
    assert excerpt_of("x" * 500, 300).startswith("…")


def test_names_of_rules_are_stable_words():
    for identifier, rule in RULES.items():
        assert identifier == identifier.lower().replace("_", "-").replace(" ", "-")
        assert rule.sentence(1).startswith("1 ")
        assert rule.sentence(2000).startswith("2,000 ")
