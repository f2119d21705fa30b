"""Each check by itself, and that no way of dividing the work changes the answer."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from array import array
from functools import reduce
from importlib import import_module
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import datasets, errors
from tunesmith.datasets import check, destinations, parallel, readers
from tunesmith.datasets.check_options import CheckOptions
from tunesmith.datasets.checks import row_hashes
from tunesmith.datasets.checks.check_run import CheckRun
from tunesmith.datasets.checks.row_hashes import RowHashes, find_conflicts, find_repeats
from tunesmith.datasets.checks.settings import resolve_settings
from tunesmith.datasets.optional import optional
from tunesmith.datasets.readers import memory

SEPARATOR = "\n\n###\n\n"


def row(number, completion=None, separator=SEPARATOR):
    label = completion if completion is not None else [" positive\n", " negative\n"][number % 2]
    return {"prompt": f"tweet number {number}{separator}", "completion": label}


def rows(count=30, **options):
    return [row(number, **options) for number in range(count)]


def written(tmp_path, values, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def found(values, **options):
    report = datasets.Dataset.from_rows(values).check(**options)
    return {finding.id: finding for finding in report.findings}


def lines(finding):
    return [location.line for location in finding.examples]


def test_good_rows_have_no_warning():
    report = datasets.Dataset.from_rows(rows(400)).check()
    assert not report.errors
    assert not report.warnings
    assert report.task == "classification"
    assert report.prompt_format == datasets.PromptFormat(SEPARATOR, " ", "\n")


def test_a_broken_line_is_named_before_upload(tmp_path):
    path = written(tmp_path, rows())
    text = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text[6] = '{"prompt": "a" "completion": "b"}\n'
    path.write_text("".join(text), encoding="utf-8")
    report = datasets.check_file(path)
    offset = sum(len(line.encode()) for line in text[:6]) + 15
    assert not report.ok
    assert str(report.first_error()) == (
        f"line 7, byte {offset}: not valid JSON: expecting ',' delimiter at column 16"
    )
    assert "line 7" in report.first_error().message
    with pytest.raises(datasets.BrokenRowError, match="line 7"):
        list(datasets.read(path))
    assert sum(1 for _ in datasets.read(path).readable_rows()) == 29


@pytest.mark.parametrize(
    ("content", "identifier"),
    [
        (b"", "file-empty"),
        (b"\n\n", "blank-line"),
        (b"prompt,completion\na,b\n", "json-syntax"),
        (b'[\n{"prompt": "a", "completion": "b"}\n]', "file-format"),
        ('{"prompt": "a", "completion": "b"}\n'.encode("utf-16"), "encoding"),
        (b"\xff\xfe\x00", "encoding"),
        (b"\x00" * 100, "json-syntax"),
    ],
)
def test_no_file_is_so_bad_that_checking_it_raises(tmp_path, content, identifier):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    report = datasets.check_file(path)
    assert identifier in {finding.id for finding in report.findings}
    assert not report.ok


def test_a_missing_file_is_a_finding(tmp_path):
    report = datasets.check_file(tmp_path / "missing.jsonl")
    assert report.first_error().id == "file-unreadable"


def test_one_row_without_the_separator_is_named():
    values = rows()
    values[6]["prompt"] = "no separator here"
    finding = found(values)["separator-missing"]
    assert lines(finding) == [7]
    assert "29 of 30 prompts end with '\\n\\n###\\n\\n'; line 7 does not" in finding.message


def test_no_separator_at_all():
    finding = found(rows(separator=""))["separator-missing"]
    assert finding.count == 30
    assert finding.severity == "warning"


def test_a_separator_within_the_text():
    values = rows()
    values[3]["prompt"] = f"a{SEPARATOR}b{SEPARATOR}"
    values[4]["completion"] = f" positive{SEPARATOR}\n"
    by_id = found(values)
    assert lines(by_id["separator-repeated"]) == [4]
    assert lines(by_id["separator-in-completion"]) == [5]


def test_overlapping_separators_are_two():
    values = rows()
    values[3]["prompt"] = "a\n\n###\n\n###\n\n"
    assert lines(found(values)["separator-repeated"]) == [4]


@pytest.mark.parametrize("completion", ["positive\n", "\tpositive\n", "  positive\n"])
def test_a_completion_that_starts_otherwise(completion):
    values = rows()
    values[8]["completion"] = completion
    assert lines(found(values)["leading-whitespace"]) == [9]


def test_stop_sequences():
    values = [row(number, f" answer {number} to all END") for number in range(30)]
    values[2]["completion"] = " no stop"
    values[5]["completion"] = " one END two END"
    by_id = found(values)
    assert lines(by_id["stop-missing"]) == [3]
    assert lines(by_id["stop-inside"]) == [6]
    assert "29 of 30" in by_id["stop-missing"].message


def test_rows_are_checked_against_a_given_format():
    chosen = datasets.PromptFormat(" ->", " ", " END")
    by_id = found(rows(), prompt_format=chosen)
    assert by_id["separator-missing"].count == 30
    assert by_id["stop-missing"].count == 30


def test_shared_text():
    values = [
        {"prompt": f"Classify this tweet: {n}{SEPARATOR}", "completion": f" Answer: {n} END"}
        for n in range(30)
    ]
    by_id = found(values)
    assert "'Classify this tweet: '" in by_id["prompt-prefix"].message
    assert "' Answer: '" in by_id["completion-prefix"].message
    same = [{"prompt": "same", "completion": f" {n} END"} for n in range(30)]
    assert found(same)["prompts-identical"].count == 30


def test_duplicates_conflicts_and_empty_completions():
    values = rows()
    values[9] = dict(values[2])
    values[11] = values[4] | {"completion": " neutral\n"}
    values[13]["completion"] = " "
    by_id = found(values)
    assert lines(by_id["duplicate-rows"]) == [10]
    assert lines(by_id["conflicting-completions"]) == [12]
    assert lines(by_id["completion-empty"]) == [14]


def test_rows_without_prompts_have_no_conflict():
    values = [{"prompt": "", "completion": f" {number} stories END"} for number in range(600)]
    assert set(found(values)) <= {"row-count"}


def test_classes():
    values = rows(300)
    values[7]["completion"] = " Positive\n"
    by_id = found(values)
    assert lines(by_id["class-variants"]) == [8]
    assert "'Positive' has 1" in by_id["class-too-few"].message
    single = [row(number, " same\n") for number in range(30)]
    assert "every completion is 'same'" in found(single)["class-single"].message


def test_classes_that_start_with_the_same_token():
    values = [row(n, [" very good\n", " very bad\n", " neutral\n"][n % 3]) for n in range(300)]
    by_id = found(values)
    assert by_id["class-first-token-shared"].count == 1
    assert by_id["class-not-single-token"].count == 2


def test_classes_that_begin_another_need_a_stop_sequence():
    values = [row(n, [" 1", " 10", " 2"][n % 3]) for n in range(300)]
    finding = found(values)["class-begins-another"]
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "class-begins-another" not in found(
        [value | {"completion": value["completion"] + "\n"} for value in values]
    )


def test_the_token_limit_is_exact_and_includes_the_separator(tmp_path):
    word = " hello"  # one token
    values = rows(20)
    # 2,043 words, 4 tokens of separator, 1 of completion: 2,048, the most that is allowed.
    values[3] = {"prompt": word * 2043 + SEPARATOR, "completion": " yes"}
    values[5] = {"prompt": word * 2044 + SEPARATOR, "completion": " yes"}
    report = datasets.check_file(written(tmp_path, values))
    finding = next(f for f in report.findings if f.id == "token-limit")
    assert lines(finding) == [6]
    assert finding.examples[0].message == "2,049 tokens, 1 more than 2,048"
    assert "line 6 has 2,049" in finding.message


def test_models_have_their_own_limits():
    openai = destinations.destination_named("openai")
    assert openai.token_limit("chat", "ft:gpt-4.1-mini-2025-04-14:org::id").encoding == "o200k_base"
    assert openai.token_limit("chat", "gpt-3.5-turbo-0613").tokens == 4096
    assert openai.token_limit("prompt_completion", None).tokens == 16_384


def test_tokens_are_counted_on_request(tmp_path):
    report = datasets.check_file(
        written(tmp_path, [{"prompt": " hello hello", "completion": " hello"}] * 3),
        count_tokens=True,
    )
    assert (report.tokens, report.longest_row) == (9, 3)


def test_an_unstable_boundary_is_found_without_leading_space():
    # "yes\n" after "\n\n": the line breaks of the separator are split in another way.
    plain = datasets.PromptFormat("\n\n###\n\n", "", "\n")
    values = [{"prompt": f"q{n}{SEPARATOR}", "completion": "yes\n"} for n in range(30)]
    by_id = found(values, prompt_format=plain)
    assert by_id["boundary-unstable"].count == 30


def test_upper_case():
    values = [
        {"prompt": f"SHOUTING {n}{SEPARATOR}", "completion": f" yes {n} END"} for n in range(90)
    ]
    assert "prompts: 100%" in found(values)["upper-case"].message


def test_validation_data_that_is_in_the_training_data():
    training = datasets.Dataset.from_rows(rows(60))
    validation = datasets.Dataset.from_rows([row(100), row(3), row(101)])
    report = training.check(validation=validation)
    finding = next(f for f in report.findings if f.id == "validation-overlap")
    assert lines(finding) == [2]
    assert "line 4 of the training data" in finding.examples[0].message
    assert not report.ok


def test_validation_data_is_compared_without_the_lines_that_cannot_be_read(tmp_path):
    for name in ("train", "valid"):
        text = "".join(json.dumps(row(k)) + "\n" for k in range(30))
        (tmp_path / f"{name}.jsonl").write_text(text + "{broken\n")
    training, validation = (
        datasets.read(tmp_path / f"{name}.jsonl") for name in ("train", "valid")
    )
    found = {f.id: f.count for f in training.check(validation=validation).findings}
    assert found["validation-overlap"] == 30


def test_near_duplicates_are_found_on_request():
    text = "the quick brown fox jumps over the lazy dog while the cat sleeps in the warm sun "
    values = rows(30)
    values[4]["prompt"] = text * 2 + SEPARATOR
    values[9]["prompt"] = text * 2 + "today" + SEPARATOR
    assert "near-duplicates" not in found(values)
    assert lines(found(values, near_duplicates=True)["near-duplicates"]) == [10]


@pytest.mark.parametrize("profile", sorted(destinations.DESTINATIONS))
def test_every_destination_has_a_date_and_sources(profile):
    facts = destinations.DESTINATIONS[profile]
    year, month = facts.as_of.split("-")
    assert 2025 <= int(year) <= 2100
    assert 1 <= int(month) <= 12
    assert facts.sources


def test_destinations_have_their_own_rules(tmp_path):
    path = written(tmp_path, rows(5))
    ids = {
        name: {finding.id for finding in datasets.check_file(path, name).findings}
        for name in destinations.DESTINATIONS
    }
    assert "rows-too-few" in ids["openai"]
    assert "rows-too-few" not in ids["engine"]
    assert "shape-unsupported" in ids["mistral"]
    assert "shape-unsupported" not in ids["together"]
    assert "file-bom-missing" in ids["azure"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "file-bom" in {f.id for f in datasets.check_file(path, "openai").warnings}
    assert not {f.id for f in datasets.check_file(path, "azure").findings} & {"file-bom-missing"}
    with pytest.raises(errors.TunesmithError, match="Unknown destination 'nowhere'"):
        datasets.check_file(path, "nowhere")


def test_examples_are_capped_and_totals_are_not():
    values = rows(200, separator="")
    for value in values[:60]:
        value["prompt"] += SEPARATOR
    chosen = datasets.PromptFormat(SEPARATOR, " ", "\n")
    few = found(values, prompt_format=chosen, max_examples=3)["separator-missing"]
    every = found(values, prompt_format=chosen, max_examples=0)["separator-missing"]
    assert (few.count, len(few.examples)) == (140, 3)
    assert (every.count, len(every.examples)) == (140, 140)


# One answer, however the work is divided.

SOURCE = random.Random(7)  # noqa: S311 - the same rows every time


def dirty_lines(count):
    made = []
    for number in range(count):
        draw = SOURCE.random()
        if draw < 0.02:
            made.append('{"prompt": "broken"')
        elif draw < 0.04:
            made.append("")
        elif draw < 0.06 and made:
            made.append(made[SOURCE.randrange(len(made))])
        elif draw < 0.08:
            made.append(json.dumps(row(number, " neutral\n", separator="")))
        elif draw < 0.1:
            made.append(json.dumps(row(SOURCE.randrange(count), " other END")))
        elif draw < 0.11:
            made.append(json.dumps({"messages": []}))
        elif draw < 0.12:
            made.append(json.dumps({"prompt": "é" * 1500 + " \\" * 700, "completion": " b\n"}))
        else:
            made.append(json.dumps(row(number)))
    return made


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    path = tmp_path_factory.mktemp("dirty") / "dirty.jsonl"
    path.write_text("\n".join(dirty_lines(700)), encoding="utf-8")
    return path


def resolved(path, **options):
    source = readers.open_path(path)
    return resolve_settings(source, CheckOptions(**options))


def concluded(run, path):
    return [finding.to_dict() for finding in run.conclude(path=path)]


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, 1 << 17), max_size=6), left=st.booleans())
def test_any_division_into_ranges_gives_the_same_findings(dirty, cuts, left):
    chosen, batches = resolved(dirty)
    whole = CheckRun(chosen).observe(batches)
    size = dirty.stat().st_size
    bounds = sorted({0, size, *(cut % size for cut in cuts)})
    parts = [parallel.check_range(dirty, chosen, start, end) for start, end in pairwise(bounds)]
    if left:
        merged = reduce(CheckRun.merge, parts)
    else:
        merged = parts.pop()
        while parts:
            merged = parts.pop().merge(merged)
    assert concluded(merged, dirty) == concluded(whole, dirty)


@pytest.mark.parametrize("options", [{}, {"near_duplicates": True, "max_examples": 0}])
def test_processes_give_the_same_report(dirty, options):
    chosen, batches = resolved(dirty, **options)
    whole = CheckRun(chosen).observe(batches)
    with parallel.WorkerPool(dirty, workers=2, smallest=1) as workers:
        divided = workers.check(chosen)
    assert concluded(divided, dirty) == concluded(whole, dirty)


def test_the_source_is_read_once():
    class Counted(memory.Rows):
        reads = 0

        def batches(self):
            self.reads += 1
            return super().batches()

    source = Counted(rows(5000))
    report = check.check_source(source, CheckOptions(near_duplicates=True, count_tokens=True))
    assert report.rows == 5000
    assert source.reads == 1


def test_a_core_install_gives_the_same_report(dirty, without_extras):
    del without_extras
    slow = datasets.check_file(dirty).to_dict()
    program = (
        "import sys; from tunesmith import datasets;"
        "sys.stdout.write(datasets.check_file(sys.argv[1]).to_json())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(dirty)], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == slow


@pytest.mark.parametrize("rows_in_memory", [10, 1 << 18])
def test_hashes_in_files_give_the_same_answer(monkeypatch, without_extras, rows_in_memory):
    hashes = [SOURCE.randrange(40) for _ in range(100)]
    inputs = [value // 2 for value in hashes]

    def store():
        made = RowHashes()
        for start in range(0, 100, 7):
            part = slice(start, start + 7)
            made.extend(array("q", inputs[part]).tobytes(), array("q", hashes[part]).tobytes())
        return made

    def answers():
        repeats, conflicts = find_repeats(store(), 5), find_conflicts(store(), 5, 3)
        return repeats, conflicts

    del without_extras
    in_python = answers()
    monkeypatch.setattr("tunesmith.datasets.optional.import_module", import_module)
    optional.cache_clear()
    monkeypatch.setattr(row_hashes, "_IN_MEMORY", rows_in_memory)
    monkeypatch.setattr(row_hashes, "_READ_AT_ONCE", 8)
    monkeypatch.setattr(row_hashes, "_ROWS_PER_PASS", rows_in_memory)
    assert answers() == in_python
    assert in_python[0].count == 100 - len(set(hashes))


def test_everything_works_with_the_network_blocked(tmp_path):
    path = written(tmp_path, rows(40))
    program = (
        "import socket, sys\n"
        "def refuse(*arguments, **options): raise OSError('the network is blocked')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from tunesmith import datasets\n"
        "for model in ('davinci', 'davinci-002', 'gpt-4o'):\n"
        "    datasets.check_file(sys.argv[1], 'openai', model=model, count_tokens=True)\n"
        "prepared = datasets.read(sys.argv[1]).plan().apply()\n"
        "train, validation = prepared.split(0.2)\n"
        "print(len(train) + len(validation))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "40", done.stderr


def test_every_public_name_is_there():
    for name in datasets.__all__:
        assert getattr(datasets, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        datasets.nothing  # noqa: B018


def test_checking_loads_no_extra_that_it_does_not_need(tmp_path):
    path = written(tmp_path, rows(5))
    program = (
        "import sys; from tunesmith import datasets; datasets.check_file(sys.argv[1]);"
        "heavy = {'pandas', 'torch', 'transformers', 'polars', 'pyarrow', 'ray', 'httpx'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"
