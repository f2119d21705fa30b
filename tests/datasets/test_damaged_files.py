"""Bad data never raises: damaged files of every format are findings of a check, or our errors."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import io
import json
import random
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.datasets.test_nothing_lost import CASES, finding
from tests.datasets.test_prepare import Script
from tests.support.workbooks import write_workbook

from tunesmith import datasets
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.prepare import prepare_data

ROWS = [
    {"prompt": f"Is {k} ä good number?\n\n###\n\n", "completion": f" {'yes' if k % 3 else 'no'}"}
    for k in range(40)
]
CHAT = [
    {
        "messages": [
            {"role": "user", "content": f"Call it {k}", "name": None},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function"}]},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}]},
            {"role": "assistant", "content": "Done."},
        ]
    }
    for k in range(20)
]
NAMES = ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.xlsx", "a.jsonl.gz", "a.csv.gz"]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(mark):
    cells = ((row["prompt"], row["completion"]) for row in ROWS)
    records = [f'"{prompt}"{mark}"say ""{completion}"""\n' for prompt, completion in cells]
    return f"prompt{mark}completion\n{''.join(records)}".encode()


def workbook(tmp_path):
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="46"/></cellXfs>'
    rows = [[row["prompt"], (k % 3, k * 1000.5)] for k, row in enumerate(ROWS)]
    path = write_workbook(
        tmp_path / "made.xlsx", [["prompt", "completion"], *rows], [["x"]], styles=styles
    )
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(path) as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))
    path.unlink()
    return packed.getvalue()


def parquet_file():
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


@pytest.fixture
def originals(tmp_path):
    """Return whole files of every format, by name."""
    found = {
        "a.jsonl": lines(ROWS),
        "chat.jsonl": lines(CHAT),
        "a.json": json.dumps(ROWS, indent=1, ensure_ascii=False).encode(),
        "chat.json": json.dumps({"data": CHAT}).encode(),
        "utf16.json": json.dumps(CHAT).encode("utf-16"),
        "a.csv": table(","),
        "utf32.csv": table(",").decode().encode("utf-32"),
        "a.tsv": table("\t"),
        "a.txt": b"one\ntwo\n\nthree \xc3\xa4\n",
        "a.xlsx": workbook(tmp_path),
        "a.jsonl.gz": gzip.compress(lines(ROWS)),
    }
    with contextlib.suppress(pytest.skip.Exception):
        found["a.parquet"] = parquet_file()
    return found


def read_in_every_way(path, **options):
    """Check, read, plan and prepare a file; only errors of ours are let through as outcomes."""
    report = datasets.check_file(path, **options)
    assert report.findings or report.ok
    with contextlib.suppress(DatasetError):
        dataset = datasets.read(path, **options)
        rows = list(dataset.readable_rows())
        plan = dataset.plan()
        fixed = list(plan.rows())
        assert len(fixed) <= len(rows)
        assert repr(dataset)
        assert plan.diff()
        prepare_data(path, Script(), **options)
    for written in path.parent.glob("*_prepared*"):
        written.unlink()


def damaged(content, draw):
    """Return the content cut, with bits flipped, pieces removed, doubled or overwritten."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        if not data:
            break
        at = draw.randrange(len(data))
        size = draw.choice([1, 4, 30, 400])
        kind = draw.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size]
        elif kind == 4:
            data[at : at + size] = draw.randbytes(min(size, len(data) - at))
        else:
            data[at:at] = draw.choice([b'"', b"{", b"]", b"\0", b"\n", b",", b"\xff", b"\\u", b"9"])
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_of_every_format_never_raise(tmp_path, originals, seed):
    draw = random.Random(seed)  # noqa: S311 - the same damage every time
    for name, content in originals.items():
        for _ in range(8):
            path = tmp_path / name
            path.write_bytes(damaged(content, draw))
            read_in_every_way(path)
            path.unlink()


@pytest.mark.slow
def test_files_under_every_wrong_name_never_raise(tmp_path, originals):
    for content in originals.values():
        for name in [*NAMES, "a.parquet", "a.xls", "a"]:
            path = tmp_path / name
            path.write_bytes(content)
            read_in_every_way(path)
            path.unlink()


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60), name=st.sampled_from([*NAMES, "a.parquet"]))
def test_random_bytes_never_raise(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    read_in_every_way(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_workbooks_with_damaged_parts_never_raise(tmp_path, originals, seed):
    draw = random.Random(seed)  # noqa: S311
    whole = originals["a.xlsx"]
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(25):
        spoiled = draw.choice(list(parts))
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                if name != spoiled:
                    archive.writestr(name, content)
                elif draw.random() < 0.9:
                    archive.writestr(name, damaged(content, draw))
        read_in_every_way(path)


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="A9" t="s"><v>99</v></c>',
        '<c r="A9" t="s"><v>-1</v></c>',
        '<c r="A9" t="s"><v>x</v></c>',
    ],
)
def test_a_cell_that_cannot_be_read_is_named(tmp_path, cell):
    path = write_workbook(
        tmp_path / "a.xlsx",
        [["prompt", "completion"], ["a", "b"], ["c", "d"]],
        cells=cell.replace("A9", "C3"),
    )
    found = finding(path, "cell-unreadable")
    assert (found.count, found.examples[0].line) == (1, 3)
    assert "C3 holds no value" in found.message
    assert len(list(datasets.read(path).readable_rows())) == 1


def test_a_date_beyond_the_calendar_is_a_finding_at_its_cell():
    found = finding(CASES / "date-beyond-calendar.xlsx", "cell-value")
    assert "B2 holds '5551234567', which is a date beyond the calendar" in found.message
    assert found.examples[0].line == 2


def test_a_workbook_that_breaks_off_names_the_row(tmp_path, originals):
    path = tmp_path / "a.xlsx"
    with (
        zipfile.ZipFile(io.BytesIO(originals["a.xlsx"])) as archive,
        zipfile.ZipFile(path, "w") as cut,
    ):
        for name in archive.namelist():
            content = archive.read(name)
            cut.writestr(name, content[:-600] if name.endswith("sheet1.xml") else content)
    (found,) = [f for f in datasets.check_file(path).findings if f.id == "file-unreadable"]
    assert "not an XLSX workbook that can be read" in found.message


def test_parquet_with_times_and_values_that_python_lacks(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "prompt": ["a", "b"],
            "completion": arrow.array([1, 2**62], arrow.timestamp("us")),
            "fine": arrow.array([dt.datetime(2020, 1, 2, 3), None], arrow.timestamp("ns")),  # noqa: DTZ001
            "raw": [b"text", b"\xff"],
            "odd": [float("nan"), 1.5],
            "list": [[float("nan")], []],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    dataset = datasets.read(tmp_path / "a.parquet")
    first, second = (row.value for row in dataset.readable_rows())
    assert first["completion"] == "1970-01-01 00:00:00.000001"
    assert (first.get("fine"), second.get("fine")) == ("2020-01-02 03:00:00", None)
    assert (first["raw"], first.get("odd"), first["list"]) == ("text", None, [None])
    late = next(f for f in dataset.check().findings if f.id == "cell-value")
    assert (late.count, late.examples[0].line) == (1, 2)
    read_in_every_way(tmp_path / "a.parquet")


@pytest.mark.parametrize("cut", [5, 30, 200])
def test_a_packed_file_that_was_cut_is_named(tmp_path, originals, cut):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(originals["a.jsonl.gz"][:-cut])
    (found,) = datasets.check_file(path).findings
    assert "damaged or cut after" in found.message


def test_files_that_are_something_else_are_called_what_they_are(tmp_path, originals):
    cases = {
        "workbook.csv": (originals["a.xlsx"], "is an XLSX workbook: let its name end in .xlsx"),
        "packed.jsonl": (originals["a.jsonl.gz"], "compressed with gzip"),
        "table.xlsx": (originals["a.csv"], "is not an XLSX workbook: it is text"),
        "page.xlsx": (b"<!DOCTYPE html>", "gave a web page"),
        "old.xlsx": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel, or one with a password"),
        "empty.parquet": (b"", "it is empty"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        (found,) = datasets.check_file(tmp_path / name).findings
        assert words in found.message
        with pytest.raises(datasets.UnreadableError):
            datasets.read(tmp_path / name)


@pytest.mark.parametrize("stored", ["8445481", "6983520", "-693555", "8001990029363", "1e308"])
def test_numbers_that_are_no_dates_are_kept_and_named(tmp_path, stored):
    path = write_workbook(
        tmp_path / "a.xlsx",
        [["prompt", "completion"], ["a", (1, stored)], ["b", (1, "43831")]],
        styles='<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>',
    )
    rows = [row.value["completion"] for row in datasets.read(path)]
    assert rows == [stored, "2020-01-01"]
    assert finding(path, "cell-value").count == 1


def test_a_missing_comma_between_the_rows_of_an_array_loses_nothing(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" + ",".join(json.dumps(row) for row in ROWS) + "\n" + "{}]")
    assert len(list(datasets.read(path).readable_rows())) == len(ROWS) + 1
