"""The faults of the old official preparation tool, each on input that brings it out.

The old tool is `openai tools fine_tunes.prepare_data` of openai 0.28.1. Each test says what it did.
"""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import zipfile

import pytest

from tunesmith import datasets
from tunesmith.datasets.format_choice import choose_prompt_format
from tunesmith.datasets.format_inference import infer_prompt_format

SEPARATOR = "\n\n###\n\n"


def pair(prompt, completion):
    return {"prompt": prompt, "completion": completion}


def fixed(rows, **options):
    """Return the values after the proposed plan."""
    return [row.value for row in datasets.Dataset.from_rows(rows).plan(**options).apply()]


def ids(report):
    return {finding.id for finding in report.findings}


def read_text(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return datasets.read(path)


def prepared(tmp_path, rows, *answers, quiet=True, name="rows.jsonl"):
    """Run the guided tool as users do and return the process."""
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tunesmith.cli",
        "tools",
        "fine_tunes.prepare_data",
        "-f",
        name,
    ]
    return subprocess.run(
        [*command, *(["-q"] if quiet else [])],
        input="".join(f"{answer}\n" for answer in answers),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )


def test_b1_the_right_rows_are_deleted():
    """After deduplication the old tool deleted by position: the long row stayed."""
    rows = [pair(f"c{n}{SEPARATOR}", f" answer {n} END") for n in range(20)]
    rows = rows[:3] + rows[:3] + rows[3:]
    rows.insert(10, pair("long " * 4000 + SEPARATOR, " too long END"))
    kept = fixed(rows)
    assert kept == [pair(f"c{n}{SEPARATOR}", f" answer {n} END") for n in range(20)]


@pytest.mark.parametrize("labels", [("positive", "negative"), ("spam", "ham"), ("same", "same")])
def test_b2_the_stop_sequence_is_not_part_of_a_label(labels):
    """The old tool advised stop=["tive"], ["am"] and [" same"]."""
    rows = [pair(f"tweet {n}{SEPARATOR}", f" {labels[n % 2]}") for n in range(40)]
    inference = infer_prompt_format(rows)
    assert inference.format.stop == ""
    chosen = choose_prompt_format(rows)
    assert not any(chosen.stop and label.endswith(chosen.stop) for label in labels)
    report = datasets.Dataset.from_rows(rows).check()
    assert report.prompt_format.stop == ""
    assert not ids(report) & {"stop-inside", "stop-missing"}


def test_b3_the_length_is_measured_in_tokens():
    """The old tool counted characters: 2,500 Chinese ones are over 2,048 tokens, under 10,000."""
    rows = [pair(f"第{n}{SEPARATOR}", f" 好{n} END") for n in range(20)]
    rows[4] = pair("书" * 2500 + SEPARATOR, " 好 END")
    rows[9] = pair(" hello" * 1900 + SEPARATOR, " 好 END")  # 11,400 characters, 1,900 tokens
    report = datasets.Dataset.from_rows(rows).check()
    finding = next(f for f in report.findings if f.id == "token-limit")
    assert [location.line for location in finding.examples] == [5]


def test_b4_rows_without_prompts_have_a_length_too():
    """The old tool did not look at the length of open-ended data."""
    rows = [pair("", f" story {n} END") for n in range(20)]
    rows[7] = pair("", " word" * 3000 + " END")
    report = datasets.Dataset.from_rows(rows).check()
    assert [p.line for f in report.findings if f.id == "token-limit" for p in f.examples] == [8]


def test_b5_null_never_becomes_training_text():
    """The old tool wrote the completions " nan" and " None" for missing ones."""
    rows = [pair(f"q{n}{SEPARATOR}", f" a{n} END") for n in range(20)]
    rows[3] = pair("q", None)
    rows[5] = {"prompt": "q"}
    report = datasets.Dataset.from_rows(rows).check()
    found = {f.id: [p.line for p in f.examples] for f in report.errors}
    assert found == {"field-type": [4], "missing-field": [6]}
    kept = fixed(rows)
    assert not any(value["completion"].strip(" END\n") in {"nan", "None", "null"} for value in kept)


def test_b6_cells_that_say_na_are_text(tmp_path):
    """The old tool read "NA", "null", "None", "nan", "N/A" as missing and dropped the rows."""
    cells = ["NA", "null", "None", "nan", "N/A", "#N/A"]
    text = "prompt,completion\n" + "".join(f"q{n},{cell}\n" for n, cell in enumerate(cells))
    assert [row.value["completion"] for row in read_text(tmp_path, "a.csv", text)] == cells


def test_b7_dates_and_numbers_of_a_sheet_are_as_in_the_sheet(tmp_path):
    """The old tool wrote "2020-01-01 00:00:00"; and objects as Python would print them."""
    path = tmp_path / "a.xlsx"
    sheet = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts = {
        "xl/_rels/workbook.xml.rels": '<R><Relationship Id="r" Target="worksheets/s.xml"/></R>',
        "xl/workbook.xml": f'<w xmlns:r="{relation}"><sheet name="S" r:id="r"/></w>',
        "xl/styles.xml": '<s><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></s>',
        "xl/worksheets/s.xml": (
            f'<s xmlns="{sheet}"><row r="1"><c t="str"><v>prompt</v></c>'
            '<c t="str"><v>completion</v></c></row>'
            '<row r="2"><c s="1"><v>43831</v></c><c><v>1.5</v></c></row></s>'
        ),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    assert [row.value for row in datasets.read(path)] == [pair("2020-01-01", "1.5")]
    report = datasets.Dataset.from_rows([pair("q", {"a": 0})]).check()
    assert report.first_error().id == "field-type"


def test_b8_one_row_without_the_separator_does_not_add_a_second_one():
    """The old tool then appended another separator, and another stop sequence, to all rows."""
    rows = [pair(f"q{n}{SEPARATOR}", f" a{n} END") for n in range(30)]
    rows[6] = pair("q6", " a6")
    assert fixed(rows) == [pair(f"q{n}{SEPARATOR}", f" a{n} END") for n in range(30)]


@pytest.mark.parametrize("ending", ["?", "a", "."])
def test_b9_an_accidental_ending_is_no_separator(ending):
    """The old tool took "?", "a" and "." for separators and stop sequences."""
    rows = [pair(f"{n} is it so{ending}", f" well. {n} it is.") for n in range(40)]
    found = infer_prompt_format(rows).format
    assert found.separator == ""
    assert found.stop == ""


def test_b10_a_stop_sequence_within_a_completion_is_found():
    """The old tool took "a END" for the stop sequence, and missed " END" within completions."""
    rows = [pair(f"q{n}{SEPARATOR}", f" {n} is a END") for n in range(30)]
    rows[4] = pair(f"q{SEPARATOR}", " the END of a END")
    assert infer_prompt_format(rows).format.stop == " END"
    report = datasets.Dataset.from_rows(rows).check()
    assert [p.line for f in report.findings if f.id == "stop-inside" for p in f.examples] == [5]


def test_b11_no_fix_leaves_an_empty_completion():
    """The old tool stripped a common prefix that was all there was; blank completions passed."""
    rows = [pair(f"q{n}{SEPARATOR}", f" Answer: {n} END") for n in range(20)]
    rows[3] = pair(f"q{SEPARATOR}", " Answer: ")
    rows[4] = pair(f"r{SEPARATOR}", "  \n")
    assert "completion-empty" in ids(datasets.Dataset.from_rows(rows).check())
    for value in fixed(rows):
        assert value["completion"].removesuffix(" END").strip()


def test_b12_classes_are_compared_as_tokens():
    """The old tool stripped "very " from "very positive" and did not look at tokens."""
    labels = [" very good", " very bad", " neutral"]
    rows = [pair(f"tweet {n}{SEPARATOR}", labels[n % 3]) for n in range(300)]
    found = ids(datasets.Dataset.from_rows(rows).check())
    assert {"class-first-token-shared", "class-not-single-token"} <= found
    assert {value["completion"].strip() for value in fixed(rows)} == {
        label.strip() for label in labels
    }


def test_b13_one_bad_byte_or_line_does_not_spoil_the_file(tmp_path):
    """For the old tool a BOM, Latin-1, one bad line or a single row made the file "not valid"."""
    line = json.dumps(pair("q", "a")).encode()
    assert len(read_text(tmp_path, "one.jsonl", line)) == 1
    assert len(read_text(tmp_path, "bom.jsonl", b"\xef\xbb\xbf" + line + b"\n" + line)) == 2
    table = "prompt,completion\ncafé,b\n".encode("latin-1")
    (row,) = read_text(tmp_path, "latin1.csv", table)
    assert row.value["prompt"] == "café"
    bad = read_text(tmp_path, "bad.jsonl", line + b"\n{oops}\n" + line).check()
    assert (bad.rows, bad.first_error().examples[0].line) == (2, 2)
    assert bad.first_error().examples[0].byte_offset == len(line) + 2


def test_b14_every_shape_of_row_is_known():
    """The old tool answered chat rows with "`prompt` column/key is missing"."""
    user, assistant = ({"role": role, "content": "hi"} for role in ("user", "assistant"))
    other = {"role": "assistant", "content": "no"}
    shapes = {
        "chat": {"messages": [user, assistant]},
        "preference": {
            "input": {"messages": [user]},
            "preferred_output": [assistant],
            "non_preferred_output": [other],
        },
        "reinforcement": {"messages": [user], "answer": 2},
    }
    for shape, row in shapes.items():
        report = datasets.Dataset.from_rows([row] * 10).check("openai")
        assert report.shape == shape
        assert report.ok


@pytest.mark.parametrize("lead", ["\t", "  ", "\n"])
def test_b15_the_leading_whitespace_is_exactly_one_space(lead):
    """The old tool wrote " \\tfoo" and took two spaces for one."""
    rows = [pair(f"q{n}{SEPARATOR}", f" a{n} END") for n in range(20)]
    rows[2] = pair(f"q2{SEPARATOR}", f"{lead}a2 END")
    report = datasets.Dataset.from_rows(rows).check()
    assert [
        p.line for f in report.findings if f.id == "leading-whitespace" for p in f.examples
    ] == [3]
    assert fixed(rows)[2]["completion"] == " a2 END"


def test_b16_extra_columns_are_named_once_without_false_warnings():
    """The old tool warned of every extra column that it contained its own name."""
    rows = [pair(f"q{n}{SEPARATOR}", f" a{n} END") | {"id": n, "source": "x"} for n in range(20)]
    report = datasets.Dataset.from_rows(rows).check(max_examples=2)
    finding = next(f for f in report.findings if f.id == "unknown-field")
    assert finding.count == 40
    assert {location.path for location in finding.examples} == {"$.id", "$.source"}
    assert fixed(rows)[0].keys() == {"prompt", "completion"}


def test_b17_the_next_command_is_safe_in_a_shell(tmp_path):
    """The old tool printed file names and class names as they were."""
    name = 'my "rows" $HOME.jsonl'
    rows = [pair(f"q{n}{SEPARATOR}", [' say "yes"', " no"][n % 2] + " END") for n in range(220)]
    done = prepared(tmp_path, rows, name=name)
    assert done.returncode == 0, done.stderr
    command = next(line for line in done.stdout.splitlines() if "fine_tunes.create" in line)
    words = shlex.split(command)
    assert any(word.startswith('my "rows" $HOME_prepared') for word in words)


def test_b18_a_single_class_is_no_classification(tmp_path):
    """The old tool suggested --classification_n_classes 1."""
    rows = [pair(f"q{n}{SEPARATOR}", " same END") for n in range(30)]
    assert "class-single" in ids(datasets.Dataset.from_rows(rows).check())
    assert "n_classes 1" not in prepared(tmp_path, rows).stdout


def test_b19_lists_are_capped_and_totals_are_exact():
    """The old tool printed 17,666 row numbers on one line."""
    rows = [pair(f"q{SEPARATOR}", " a END")] * 5000
    text = datasets.Dataset.from_rows(rows).check().to_text()
    assert "4,999 rows repeat an earlier one" in text
    assert len(text) < 4000


def test_b20_every_class_is_in_the_validation_data():
    """The old tool could leave a rare class out of it."""
    rows = [pair(f"tweet {n}{SEPARATOR}", " common") for n in range(300)]
    rows[5:7] = [pair(f"other {n}{SEPARATOR}", " rare") for n in range(2)]
    training, validation = datasets.Dataset.from_rows(rows).split(0.2)
    for part in (training, validation):
        assert {row.value["completion"] for row in part} == {" common", " rare"}


def test_b21_memory_does_not_grow_with_the_file(tmp_path):
    """The old tool took nine times the size of the file, and 27 s for a long common ending."""
    tail = "\n" + "the same instruction in every prompt " * 35 + SEPARATOR
    line = json.dumps(pair("{}" + tail, " a END"))
    path = tmp_path / "big.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for number in range(20_000):
            stream.write(line.replace("{}", str(number), 1) + "\n")
    program = (
        "import resource, sys; from tunesmith import datasets;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "datasets.check_file(sys.argv[2]); before = peak();"
        "datasets.check_file(sys.argv[1]); print(peak() - before)"
    )
    small = tmp_path / "small.jsonl"
    with path.open(encoding="utf-8") as stream:
        small.write_text("".join(next(stream) for _ in range(2_000)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(small)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert path.stat().st_size > 25_000_000
    assert int(done.stdout) < 12_000  # KiB more, for ten times the rows


def test_b22_half_a_surrogate_pair_is_reported_not_removed(tmp_path):
    """The old tool removed the broken character and said nothing."""
    text = '{"prompt": "q ->", "completion": " x\\ud83d END"}\n'
    good = json.dumps(pair("r ->", " y END")) + "\n"
    report = read_text(tmp_path, "lone.jsonl", good + text).check()
    finding = report.first_error()
    assert (finding.id, finding.examples[0].line) == ("lone-surrogate", 2)
    assert finding.examples[0].path == "$.completion"


def test_b23_no_estimate_depends_on_how_text_is_stored(tmp_path):
    """The old tool's minutes came from the memory that pandas took, for a model that is gone."""
    rows = [pair(f"q{n}{SEPARATOR}", f" a{n} END") for n in range(30)]
    done = prepared(tmp_path, rows)
    assert done.returncode == 0, done.stderr
    assert "minutes" not in done.stdout
    assert "curie" not in done.stdout
    first = datasets.read(io.StringIO("".join(json.dumps(row) + "\n" for row in rows)))
    second = datasets.Dataset.from_rows(rows)
    assert first.check(count_tokens=True).tokens == second.check(count_tokens=True).tokens


def test_no_means_no(tmp_path):
    """The old tool took everything but a single "n" for yes, the word "no" included."""
    rows = [pair(f"question {n}", f"answer {n}") for n in range(30)]
    done = prepared(tmp_path, rows, *["no"] * 20, quiet=False)
    assert done.returncode in {0, 1}
    assert not list(tmp_path.glob("*_prepared*"))
