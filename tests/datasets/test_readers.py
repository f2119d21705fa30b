"""Every format, from every kind of source, lossless, with the location of each row."""

from __future__ import annotations

import datetime as dt
import io
import json
import zipfile
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import datasets
from tunesmith.datasets import readers
from tunesmith.datasets.readers import json_lines
from tunesmith.datasets.readers.json_lines import read_chunks
from tunesmith.errors import TunesmithError

ROWS = [{"prompt": "a é", "completion": " b"}, {"prompt": "NA", "completion": " null"}]


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def locations(dataset):
    return [(row.line, row.byte_offset) for row in dataset]


def values(dataset):
    return [row.value for row in dataset]


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_jsonl_rows_know_their_line_and_byte(tmp_path, line_end):
    text = lines_of(ROWS).replace("\n", line_end)
    dataset = datasets.read(written(tmp_path, "a.jsonl", text))
    assert values(dataset) == ROWS
    assert locations(dataset) == [(1, 0), (2, text.index('{"prompt": "NA"'))]
    assert next(iter(dataset)).file == str(tmp_path / "a.jsonl")


def test_one_row_without_a_line_end(tmp_path):
    dataset = datasets.read(written(tmp_path, "one.jsonl", '{"prompt": "a", "completion": "b"}'))
    assert values(dataset) == [{"prompt": "a", "completion": "b"}]


def test_a_byte_order_mark_is_skipped(tmp_path):
    dataset = datasets.read(written(tmp_path, "bom.jsonl", lines_of(ROWS).encode("utf-8-sig")))
    assert values(dataset) == ROWS
    assert locations(dataset)[0] == (1, 3)


def test_csv_cells_stay_as_they_are(tmp_path):
    text = 'prompt,completion\nNA,null\n"x, ""y""\nz",1.0\n2020-01-01,\n'
    dataset = datasets.read(written(tmp_path, "a.csv", text))
    assert values(dataset) == [
        {"prompt": "NA", "completion": "null"},
        {"prompt": 'x, "y"\nz', "completion": "1.0"},
        {"prompt": "2020-01-01", "completion": ""},
    ]
    assert locations(dataset) == [(2, 18), (3, 26), (5, 43)]


def test_the_separator_of_a_csv_file_is_detected(tmp_path):
    dataset = datasets.read(written(tmp_path, "a.csv", "prompt;completion\na,b;c\n"))
    assert values(dataset) == [{"prompt": "a,b", "completion": "c"}]


def test_quotes_in_a_tsv_file_may_be_plain_characters(tmp_path):
    text = 'prompt\tcompletion\n"The Rock is great\tgood\nHe said "no\tbad\n'
    dataset = datasets.read(written(tmp_path, "a.tsv", text))
    assert values(dataset) == [
        {"prompt": '"The Rock is great', "completion": "good"},
        {"prompt": 'He said "no', "completion": "bad"},
    ]


def test_a_record_of_the_wrong_width_is_a_finding_with_its_line(tmp_path):
    path = written(tmp_path, "a.csv", "prompt,completion\na,b\nc\nd,e,f\ng,h,\n")
    report = datasets.read(path).check()
    (finding,) = report.errors
    assert finding.id == "table-columns"
    assert [location.line for location in finding.examples] == [3, 4]
    with pytest.raises(datasets.BrokenRowError, match="line 3, byte 22"):
        datasets.read(path).rows  # noqa: B018 - the reading is the test


def test_a_line_that_is_not_utf8_is_read_and_reported_with_its_byte(tmp_path):
    path = written(tmp_path, "a.csv", "prompt,completion\ncafé,b\nok,c\n".encode("cp1252"))
    dataset = datasets.read(path)
    assert values(dataset)[0] == {"prompt": "café", "completion": "b"}
    finding = next(f for f in dataset.check().findings if f.id == "encoding-guessed")
    assert (finding.examples[0].line, finding.examples[0].byte_offset) == (2, 21)
    assert "'é'" in finding.examples[0].message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_in_other_encodings(tmp_path, encoding):
    path = written(tmp_path, "a.csv", "prompt,completion\nä\u2028,😀\n".encode(encoding))
    assert values(datasets.read(path)) == [{"prompt": "ä\u2028", "completion": "😀"}]


def test_json_arrays_documents_and_columns(tmp_path):
    expected = [{"prompt": "ä", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    texts = {
        "array.json": json.dumps(expected, indent=2, ensure_ascii=False),
        "line.json": json.dumps(expected),
        "lines.json": lines_of(expected),
        "one-after-another.json": "\n".join(json.dumps(row, indent=1) for row in expected),
        "array-named.jsonl": json.dumps(expected, indent=2),
        "columns.json": json.dumps({"prompt": ["ä", "c"], "completion": ["b", "d"]}),
        "wrapped.json": json.dumps({"data": expected}),
        "pandas.json": json.dumps(
            {"prompt": {"0": "ä", "1": "c"}, "completion": {"0": "b", "1": "d"}}
        ),
    }
    for name, text in texts.items():
        assert values(datasets.read(written(tmp_path, name, text))) == expected, name


def test_rows_of_a_json_array_know_line_and_byte(tmp_path):
    text = '[\n  {"prompt": "é", "completion": "b"},\n  {"prompt": "c", "completion": "d"}\n]'
    dataset = datasets.read(written(tmp_path, "a.json", text))
    assert locations(dataset) == [(2, 4), (3, len(text[: text.index('{"prompt": "c"')].encode()))]


def test_a_broken_json_array_names_the_location(tmp_path):
    path = written(tmp_path, "a.json", '[\n{"prompt": "a", "completion": "b"},\n{"prompt": x}\n]')
    (finding,) = datasets.read(path).check().errors
    assert finding.id == "json-syntax"
    assert (finding.examples[0].line, finding.examples[0].column) == (3, 12)


def test_a_json_array_larger_than_what_is_read_at_once(tmp_path):
    rows = [{"prompt": f"{number} " + "é" * 300, "completion": " b"} for number in range(2000)]
    path = written(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False))
    assert values(datasets.read(path)) == rows


def test_text_lines_are_completions(tmp_path):
    dataset = datasets.read(written(tmp_path, "a.txt", "one\n\ntwo\n"))
    assert values(dataset) == [
        {"prompt": "", "completion": "one"},
        {"prompt": "", "completion": "two"},
    ]
    assert locations(dataset) == [(1, 0), (3, 5)]


def test_named_columns_become_prompt_and_completion(tmp_path):
    path = written(tmp_path, "a.csv", "id,text,label\n7,hello,1\n")
    dataset = datasets.read(path, prompt="text", completion="label")
    assert values(dataset) == [{"prompt": "hello", "completion": "1"}]
    rows = datasets.read([{"text": "a", "label": 1}], prompt="text", completion="label")
    assert values(rows) == [{"prompt": "a", "completion": "1"}]


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = written(tmp_path, "a.csv", "id,text\n7,hello\n")
    with pytest.raises(TunesmithError, match="no column 'label'; there are 'id', 'text'"):
        datasets.read(path, prompt="text", completion="label").rows  # noqa: B018


def test_file_objects_and_iterables():
    binary = io.BytesIO(lines_of(ROWS).encode())
    assert values(datasets.read(binary)) == ROWS
    text = datasets.read(io.StringIO(lines_of(ROWS)))
    assert values(text) == ROWS
    assert values(text) == ROWS  # a second time
    table = io.StringIO("prompt,completion\na,b\n")
    assert values(datasets.read(table, format="csv")) == [{"prompt": "a", "completion": "b"}]
    assert values(datasets.read(iter(ROWS))) == ROWS
    assert locations(datasets.read(ROWS)) == [(1, None), (2, None)]


def test_unreadable_sources_raise_with_a_reason(tmp_path):
    with pytest.raises(datasets.UnreadableError, match="There is no file"):
        datasets.read(tmp_path / "missing.jsonl")
    with pytest.raises(datasets.UnreadableError, match="is a folder"):
        datasets.read(tmp_path)
    with pytest.raises(datasets.UnreadableError, match="has an unknown extension"):
        datasets.read(written(tmp_path, "a.doc", ""))
    with pytest.raises(datasets.UnreadableError, match="Unknown format 'xls'"):
        datasets.read(written(tmp_path, "a.csv", ""), format="xls")
    with pytest.raises(datasets.UnreadableError, match="not an XLSX workbook"):
        datasets.read(written(tmp_path, "a.xlsx", "text")).rows  # noqa: B018
    with pytest.raises(datasets.UnreadableError, match="Cannot read rows from int"):
        datasets.read(7)


SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
WORKBOOK_PARTS = {
    "xl/_rels/workbook.xml.rels": (
        '<Relationships><Relationship Id="r1" Target="worksheets/sheet1.xml"/>'
        '<Relationship Id="r2" Target="worksheets/sheet2.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        f'<workbook xmlns="{SHEET}" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<sheets><sheet name="Data" r:id="r1"/><sheet name="Notes" r:id="r2"/></sheets></workbook>'
    ),
    "xl/sharedStrings.xml": (
        f'<sst xmlns="{SHEET}"><si><t>prompt</t></si><si><t>completion</t></si>'
        "<si><t>NA</t></si><si><r><t>rich </t></r><r><t>text</t></r></si></sst>"
    ),
    "xl/styles.xml": (
        f'<styleSheet xmlns="{SHEET}"><numFmts><numFmt numFmtId="170" '
        'formatCode="yyyy\\-mm\\-dd"/><numFmt numFmtId="171" formatCode="0.00&quot;days&quot;"/>'
        '</numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="170"/>'
        '<xf numFmtId="171"/></cellXfs></styleSheet>'
    ),
    "xl/worksheets/sheet1.xml": (
        f'<worksheet xmlns="{SHEET}"><sheetData>'
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
        '<row r="2"><c r="A2" t="s"><v>2</v></c><c r="B2"><v>1</v></c></row>'
        '<row r="4"><c r="A4" t="s"><v>3</v></c><c r="B4" s="1"><v>43831</v></c></row>'
        '<row r="5"><c r="A5" t="b"><v>1</v></c><c r="B5" s="2"><v>43831.5</v></c></row>'
        '<row r="6"><c r="B6" s="3"><v>0.10000000000000001</v></c></row>'
        '<row r="7"><c r="A7" t="inlineStr"><is><t>in line</t></is></c>'
        '<c r="B7" t="str"><v>formula</v></c></row>'
        "</sheetData></worksheet>"
    ),
    "xl/worksheets/sheet2.xml": (
        f'<worksheet xmlns="{SHEET}"><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
        "</sheetData></worksheet>"
    ),
}


def test_a_workbook_is_read_without_any_package(tmp_path):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in WORKBOOK_PARTS.items():
            archive.writestr(name, text)
    dataset = datasets.read(path)
    expected = [
        ("NA", "1", 2),
        ("rich text", "2020-01-01", 4),
        ("TRUE", "2020-01-01 12:00:00", 5),
        ("", "0.1", 6),
        ("in line", "formula", 7),
    ]
    assert [(row.value["prompt"], row.value["completion"], row.line) for row in dataset] == expected
    ignored = next(f for f in dataset.check().findings if f.id == "sheets-ignored")
    assert "'Notes'" in ignored.examples[0].message


def test_workbooks_frames_and_parquet_of_other_libraries(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    frame = pandas.DataFrame({"prompt": ["NA", "a"], "completion": ["1", None], "n": [1, 2]})
    found = values(datasets.read(frame))
    assert found == [
        {"prompt": "NA", "completion": "1", "n": 1},
        {"prompt": "a", "completion": None, "n": 2},
    ]
    whole = frame.fillna("null")
    whole["when"] = dt.date(2020, 1, 2)
    whole.to_excel(tmp_path / "a.xlsx", index=False)
    assert values(datasets.read(tmp_path / "a.xlsx")) == [
        {"prompt": "NA", "completion": "1", "n": "1", "when": "2020-01-02"},
        {"prompt": "a", "completion": "null", "n": "2", "when": "2020-01-02"},
    ]


def test_parquet_and_arrow_tables(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"prompt": ["a", "NA"], "completion": ["b", "c"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    expected = [{"prompt": "a", "completion": "b"}, {"prompt": "NA", "completion": "c"}]
    assert values(datasets.read(tmp_path / "a.parquet")) == expected
    assert values(datasets.read(table)) == expected
    with pytest.raises(datasets.UnreadableError, match="cannot be read as Parquet"):
        datasets.read(written(tmp_path, "b.parquet", "text")).rows  # noqa: B018


def test_polars_frames():
    polars = pytest.importorskip("polars")
    assert values(datasets.read(polars.DataFrame(ROWS))) == ROWS


LINE = st.one_of(
    st.builds(json.dumps, st.fixed_dictionaries({"prompt": st.text(), "completion": st.text()})),
    st.builds(json.dumps, st.dictionaries(st.text(), st.text() | st.integers(), max_size=3)),
    st.sampled_from(["", " ", "{", '{"a": 1}{', "[1]", "7", '{"a": NaN}', '{"a":1,"a":2}']),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(
        lambda text: text.replace("\n", " ")
    ),
)


def observed(batches):
    rows = [
        (sorted(row.value.items()), row.line, row.byte_offset)
        for batch in batches
        for row in batch.rows(None)
    ]
    faults = sorted(
        (fault.location.line, fault.location.byte_offset, fault.id)
        for batch in batches
        for fault in batch.faults
    )
    return repr(rows), faults


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(LINE, max_size=80), final=st.booleans())
def test_the_fast_decoder_reads_what_the_strict_decoder_reads(tmp_path, lines, final):
    path = tmp_path / "a.jsonl"
    path.write_bytes(("\n".join(lines) + ("\n" if final else "")).encode("utf-8", "surrogatepass"))
    source = readers.open_path(path, "jsonl")
    fast = observed(list(source.batches()))
    decode = json_lines.ChunkDecoder.decode
    try:
        json_lines.ChunkDecoder.decode = lambda *_: None
        slow = observed(list(source.batches()))
    finally:
        json_lines.ChunkDecoder.decode = decode
    assert fast == slow


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    parts=st.integers(1, 9),
    size=st.integers(1, 40),
)
def test_adjoining_ranges_share_no_line_and_miss_none(tmp_path, lines, parts, size):
    path = tmp_path / "a.jsonl"
    whole = b"\n".join(lines)
    path.write_bytes(whole)
    bounds = [len(whole) * part // parts for part in range(parts + 1)]
    found = b""
    for start, end in pairwise(bounds):
        with path.open("rb") as stream:
            for offset, chunk in read_chunks(stream, start, end, size):
                assert whole[offset : offset + len(chunk)] == chunk
                found += chunk
    assert found == whole


def test_a_table_of_carriage_returns_alone_is_refused_by_name(tmp_path):
    path = written(tmp_path, "old-mac.csv", b"prompt,completion\rhi,a\rho,b\r")
    with pytest.raises(datasets.UnreadableError, match="line 1, which should name the columns"):
        list(datasets.read(path))
    (finding,) = datasets.check_file(path).findings
    assert finding.id == "file-unreadable"


def test_a_carriage_return_inside_a_line_is_text_or_the_line_is_named(tmp_path):
    path = written(tmp_path, "a.csv", b"prompt,completion\na,b\nx\ry,z\nc,d\nx\ry\ne,f\n")
    finding = next(f for f in datasets.check_file(path).findings if f.id == "table-line")
    assert (finding.count, finding.examples[0].line) == (1, 5)
    rows = [row.value["prompt"] for row in datasets.read(path).readable_rows()]
    assert rows == ["a", "x\ry", "c", "e"]
