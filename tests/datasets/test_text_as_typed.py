"""Text is what was typed: encodings, escapes, quotes, numbers and missing values."""

from __future__ import annotations

import gzip
import json

import pytest
from tests.datasets.test_nothing_lost import CASES, finding, outcome, read_case
from tests.datasets.test_prepare import Script
from tests.support.workbooks import write_workbook

from tunesmith import datasets
from tunesmith.cli import main
from tunesmith.datasets.prepare import prepare_data

TEXT = "prompt,completion\n" + "".join(f"标题 {k} ä,答案 {k}\n" for k in range(30))
EXPECTED = [{"prompt": f"标题 {k} ä", "completion": f"答案 {k}"} for k in range(30)]
CHINESE = TEXT.replace("ä", "的")


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def values(path, **options):
    return [row.value for row in datasets.read(path, **options)]


# Workbooks


def test_an_escaped_carriage_return_is_a_line_break():
    rows, _, faults = read_case("carriage-return-escape.xlsx")
    assert [row["completion"] for row in rows] == [f"line one\nline two {k}" for k in range(4)]
    assert not faults


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("a_x000D_\nb", "a\nb"),
        ("a_x000D_b", "a\nb"),
        ("_x005F_x000D_", "_x000D_"),
        ("_xD83D__xDE00_", "😀"),
        ("_x0041_", "A"),
        ("snake_x_case _x12_ _xyzzy_", "snake_x_case _x12_ _xyzzy_"),
    ],
)
def test_escapes_in_cells(tmp_path, stored, typed):
    path = write_workbook(tmp_path / "a.xlsx", [["prompt", "completion"], [stored, "b"]])
    assert values(path) == [{"prompt": typed, "completion": "b"}]


FORMATS = {
    0: ("", "General"),
    170: ("[h]:mm", "hours"),
    171: ("[hh]:mm:ss", "duration"),
    172: ("[Red]0.00", "colour"),
    173: ("0.0%", "percentage"),
    174: ("[$-409]d/m/yyyy", "date"),
    175: ('0.0" days"', "text"),
    176: ("h:mm", "time"),
    177: ("[mm]:ss", "minutes"),
}


@pytest.mark.parametrize(
    ("style", "stored", "typed"),
    [
        (0, "1", "1"),
        (1, "1.5", "36:00"),
        (1, "0.0006944444444444445", "0:01"),
        (2, "1.5", "36:00:00"),
        (3, "1.50", "1.5"),
        (4, "0.07", "7%"),
        (4, "0.125", "12.5%"),
        (5, "43831", "2020-01-01"),
        (5, "1", "1900-01-01"),
        (5, "61", "1900-03-01"),
        (6, "2.5", "2.5"),
        (7, "0.5625", "13:30:00"),
        (8, "0.75", "18:00:00"),
    ],
)
def test_numbers_are_what_was_typed(tmp_path, style, stored, typed):
    codes = "".join(
        f'<numFmt numFmtId="{number}" formatCode="{code.replace(chr(34), "&quot;")}"/>'
        for number, (code, _) in FORMATS.items()
        if number
    )
    cells = "".join(f'<xf numFmtId="{number}"/>' for number in FORMATS)
    path = write_workbook(
        tmp_path / "a.xlsx",
        [["prompt", "completion"], ["a", (style, stored)]],
        styles=f"<numFmts>{codes}</numFmts><cellXfs>{cells}</cellXfs>",
    )
    assert values(path) == [{"prompt": "a", "completion": typed}]


def test_a_hidden_sheet_is_not_the_first_one(tmp_path):
    header = ["prompt", "completion"]
    path = write_workbook(
        tmp_path / "a.xlsx",
        [header, ["old", "x"]],
        [header, ["new", "y"]],
        names=["Archive", "Data"],
        states=["hidden", "visible"],
    )
    rows, _, faults = outcome(datasets.read(path))
    assert rows == [{"prompt": "new", "completion": "y"}]
    (fault,) = faults
    assert "'Archive', which is hidden," in fault.location.message
    assert values(path, sheet="archive") == [{"prompt": "old", "completion": "x"}]
    assert not [f for f in datasets.check_file(path, sheet="Data").findings if "sheet" in f.id]
    with pytest.raises(datasets.UnreadableError, match="the sheets are 'Archive', 'Data'"):
        values(path, sheet="Other")
    with pytest.raises(datasets.UnreadableError, match="has no sheets"):
        datasets.read(CASES / "space-after-comma.csv", sheet="Data")


# Tables and encodings


def test_a_space_after_the_comma_belongs_to_no_column():
    rows, _, _ = read_case("space-after-comma.csv")
    assert rows == [{"prompt": f"p {k}", "completion": f"c {k}"} for k in range(6)]


def test_a_space_that_was_typed_stays(tmp_path):
    path = written(tmp_path, "a.csv", b'prompt, completion\na, yes\n"b", no\n')
    assert values(path) == [
        {"prompt": "a", "completion": " yes"},
        {"prompt": "b", "completion": " no"},
    ]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.txt"])
def test_unicode_encodings_are_recognised(tmp_path, encoding, name):
    ascii_rows = [{"prompt": f"question {k} ä", "completion": f"answer {k}"} for k in range(20)]
    text = {
        "a.csv": "prompt,completion\n"
        + "".join(f"{row['prompt']},{row['completion']}\n" for row in ascii_rows),
        "a.json": json.dumps(ascii_rows, indent=1, ensure_ascii=False),
        "a.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ascii_rows),
        "a.txt": "".join(f"{row['prompt']}\n" for row in ascii_rows),
    }[name]
    path = written(tmp_path, name, text.encode(encoding))
    expected = ascii_rows
    if name == "a.txt":
        expected = [{"prompt": "", "completion": row["prompt"]} for row in ascii_rows]
    assert values(path) == expected
    if name == "a.csv":
        offsets = [row.byte_offset for row in datasets.read(path)]
        line = f"{ascii_rows[5]['prompt']},".encode(encoding.removesuffix("-sig"))
        marked = {"utf-16": line[2:], "utf-32": line[4:]}.get(encoding, line)
        assert path.read_bytes()[offsets[5] :].startswith(marked)


def test_gbk_with_its_name(tmp_path, capsys):
    path = written(tmp_path, "a.csv", CHINESE.encode("gbk"))
    expected = [{**row, "prompt": row["prompt"].replace("ä", "的")} for row in EXPECTED]
    assert values(path, encoding="gbk") == expected
    assert "encoding='gbk'" in finding(path, "encoding-guessed").message
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in expected)
    assert values(written(tmp_path, "a.jsonl", rows.encode("gbk")), encoding="gb18030") == expected
    assert (
        main(["tools", "fine_tunes.prepare_data", "-q", "-f", str(path), "--encoding", "gbk"]) == 0
    )
    assert "标题 7 的" in (tmp_path / "a_prepared.jsonl").read_text(encoding="utf-8")
    main(["tools", "check", str(path), "--encoding", "gbk"])
    assert "Windows-1252" not in capsys.readouterr().out
    with pytest.raises(datasets.UnreadableError, match="no encoding 'klingon'"):
        datasets.read(path, encoding="klingon")


@pytest.mark.parametrize("name", ["base64", "utf-7", "punycode", "idna", "undefined", "a\0b", ""])
def test_encodings_that_are_odd_or_none_never_raise_anything_else(tmp_path, name):
    path = written(tmp_path, "a.csv", b"prompt,completion\na,b\n")
    try:
        assert values(path, encoding=name) == [{"prompt": "a", "completion": "b"}]
    except datasets.UnreadableError as error:
        assert "encoding" in str(error) or "cannot be read as" in str(error)  # noqa: PT017


def test_bytes_that_an_encoding_lacks_are_named(tmp_path):
    path = written(tmp_path, "a.csv", b"prompt,completion\na\xff,b\nc,d\n")
    rows, lost, faults = outcome(datasets.read(path, encoding="ascii"))
    assert (rows[0]["prompt"], lost) == ("a\ufffd", [])
    assert [(fault.id, fault.location.line) for fault in faults] == [("encoding-replaced", 2)]
    path = written(tmp_path, "a.json", b'[{"prompt": "a\xff", "completion": "b"}]')
    rows, lost, _ = outcome(datasets.read(path))
    assert (rows, [fault.id for fault in lost]) == ([], ["encoding"])


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.json"])
def test_a_byte_order_mark_where_files_were_joined_is_no_text(tmp_path, name):
    texts = {
        "a.jsonl": '{"prompt": "%s", "completion": "b"}\n',
        "a.csv": "%s,b\n",
        "a.txt": "%s\n",
        "a.json": '{"prompt": "%s",\n "completion": "b"}\n',
    }
    first, second = (texts[name] % word for word in "xy")
    header = "prompt,completion\n" if name == "a.csv" else ""
    path = written(tmp_path, name, (header + first).encode() + second.encode("utf-8-sig"))
    rows, lost, faults = outcome(datasets.read(path))
    texts = [row["prompt"] or row["completion"] for row in rows]
    assert (texts, lost) == (["x", "y"], [])
    assert name == "a.json" or [fault.id for fault in faults] == ["bom-inside"]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "A.CSV.GZ"])
def test_packed_files(tmp_path, name):
    rows = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(30)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if "csv" in name.lower():
        text = "prompt,completion\n" + "".join(f"p{k},c{k}\n" for k in range(30))
    path = written(tmp_path, name, gzip.compress(text.encode()))
    assert values(path) == rows
    dataset = datasets.read(path)
    assert dataset.name == str(path)
    with path.open("rb") as stream:
        assert values(stream) == rows
    prepared = prepare_data(path, Script())
    assert len(prepared.training.read_text().splitlines()) == 30


# Values of other libraries


def test_missing_values_of_lists_and_frames_are_null():
    numpy = pytest.importorskip("numpy")
    rows = [
        {"prompt": float("nan"), "completion": numpy.float64("nan"), "n": [float("nan"), 1.0]},
        {"prompt": numpy.str_("a"), "completion": numpy.int64(3), "n": numpy.array([1, 2])},
    ]
    expected = [
        {"prompt": None, "completion": None, "n": [None, 1.0]},
        {"prompt": "a", "completion": 3, "n": [1, 2]},
    ]
    assert values(rows) == expected
    assert [row.value for row in datasets.Dataset.from_rows(rows)] == expected


def test_a_missing_prompt_is_no_text_nan():
    rows = [{"prompt": float("nan"), "completion": f"c{k}"} for k in range(3)]
    assert {row.value["prompt"] for row in datasets.read(rows).plan().rows()} <= {"", "\n\n###\n\n"}
