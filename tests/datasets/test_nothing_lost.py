"""Rows in = rows out + rows named: of every reader, of every fix, and of columns."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.datasets.test_prepare import Script
from tests.support.workbooks import write_workbook

from tunesmith import datasets
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.prepare import prepare_data

CASES = Path(__file__).parent / "cases"


def outcome(dataset):
    """Return the rows that were read and the faults that each cost one."""
    faults = [fault for batch in dataset.source.batches() for fault in batch.faults]
    rows = [row.value for row in dataset.readable_rows()]
    return rows, [fault for fault in faults if fault.lost], faults


def read_case(name, **options):
    return outcome(datasets.read(CASES / name, **options))


def finding(path, rule, **options):
    return next(f for f in datasets.check_file(path, **options).findings if f.id == rule)


# The cases


def test_a_json_array_with_one_broken_element_loses_that_one_alone():
    rows, lost, _ = read_case("array-broken-at-10.json")
    assert [row["prompt"] for row in rows] == [f"question {k} ->" for k in range(30) if k != 9]
    (fault,) = lost
    assert fault.location.line == 11
    assert fault.location.column in {56, 57}  # from Python 3.13 on, the comma itself is named
    assert finding(CASES / "array-broken-at-10.json", "json-syntax").count == 1


def test_jsonl_in_a_text_file_is_read_as_jsonl():
    rows, lost, _ = read_case("jsonl-named.txt")
    assert rows == [{"prompt": f"p{k} ->", "completion": f" c{k}"} for k in range(8)]
    assert not lost
    assert len(outcome(datasets.read(CASES / "jsonl-named.txt", format="txt"))[0]) == 8


def test_an_unclosed_quote_costs_its_line_alone():
    rows, lost, _ = read_case("unclosed-quote.csv")
    assert [row["prompt"] for row in rows] == [f"row {k}" for k in range(12) if k != 4]
    assert [(fault.id, fault.location.line) for fault in lost] == [("table-quote", 6)]


def test_two_equal_headers_are_told_and_both_columns_are_kept(tmp_path):
    rows, lost, faults = read_case("two-equal-headers.csv")
    assert rows[0] == {"prompt": "p0", "completion": "first 0", "completion (2)": "second 0"}
    assert (len(rows), lost, [fault.id for fault in faults]) == (6, [], ["table-header"])
    path = tmp_path / "a.csv"
    path.write_bytes((CASES / "two-equal-headers.csv").read_bytes())
    script = Script()
    prepare_data(path, script)
    assert any("named more than once" in text for text in script.said)
    assert any("not 'completion (2)' (6 rows with text)" in text for text in script.asked)
    assert not any("cannot be read" in text for text in script.said)
    prepared = prepare_data(path, Script(), completion="completion (2)")
    assert "second 0" in prepared.training.read_text()


def test_an_unnamed_third_column_is_told_and_its_row_is_kept(tmp_path):
    rows, lost, faults = read_case("note-in-third-column.xlsx")
    assert [row["prompt"] for row in rows] == [f"p {k}" for k in range(6)]
    assert rows[3]["column C"] == "check this"
    assert "column C" not in rows[0]
    assert (lost, [fault.id for fault in faults]) == ([], ["column-unnamed"])
    path = tmp_path / "a.xlsx"
    path.write_bytes((CASES / "note-in-third-column.xlsx").read_bytes())
    script = Script()
    prepare_data(path, script)
    assert any("not 'column C' (1 row with text)" in text for text in script.asked)


def test_the_loss_of_a_column_is_named_and_asked(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "task,note,answer\n" + "".join(f"t{k},{'n' * (k % 2)},a{k}\n" for k in range(12))
    )
    script = Script()
    prepare_data(path, script, prompt="task", completion="answer")
    assert any("not 'note' (6 rows with text)" in text for text in script.asked)
    declined = Script("no")
    prepared = prepare_data(path, declined, prompt="task", completion="answer")
    assert "not 'note'" in declined.asked[0]
    assert '"note": "n"' in prepared.training.read_text()


def test_alpaca_columns_named_by_hand_do_not_lose_the_input_unsaid(tmp_path):
    path = tmp_path / "alpaca.json"
    path.write_bytes((CASES / "alpaca.json").read_bytes())
    script = Script()
    prepared = prepare_data(path, script, prompt="instruction", completion="output")
    found = "'input' (6 rows with text)" in " ".join(script.asked + script.said)
    assert found or "word 1" in prepared.training.read_text()


def test_reading_two_columns_tells_what_else_held_text():
    rows = [{"task": "a", "note": "b", "answer": "c"}, {"task": "d", "note": "", "answer": "e"}]
    report = datasets.read(rows, prompt="task", completion="answer").check()
    (reported,) = [f for f in report.findings if f.id == "columns-not-read"]
    assert (reported.count, reported.examples[0].line) == (1, 1)
    assert "'note'" in reported.message


# Other members of the kind


@pytest.mark.parametrize(
    "broken",
    [
        '{"prompt": "b", "completion": "b",}',
        '{"prompt": "b, "completion": "b"}',
        '{"prompt": "b", "completion": "b"',
        '{"prompt": "b" "completion": "b"}',
        '{"prompt": "b\nb", "completion": "b"}',
        '{"prompt": "b", "completion": "b"]}',
        '{"prompt": b, "completion": {"x": [1, 2}}',
        "{'prompt': 'b', 'completion': 'b'}",
        "None",
        "{",
        '{"prompt": "b", "completion": NaN}',
        '{"prompt": "b", "prompt": "b", "completion": "b"}',
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("joint", [",", ",\n  "])
@pytest.mark.parametrize("frame", ["[%s]", '{"data": [%s]}', "[\n  %s\n]\n"])
def test_a_broken_element_is_named_wherever_it_stands(tmp_path, broken, place, joint, frame):
    good = [{"prompt": "a", "completion": "a {x} [y], {"}, {"prompt": "c", "completion": "}],"}]
    elements = [json.dumps(row) for row in good]
    elements.insert(place, broken)
    path = tmp_path / "a.json"
    path.write_text(frame % joint.join(elements))
    rows, lost, _ = outcome(datasets.read(path))
    assert (rows, len(lost)) == (good, 1)


def test_nested_objects_are_not_taken_for_rows(tmp_path):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    text = json.dumps([row, row, row], indent=1)
    broken = text.replace('"content": "b"', '"content": "b" x', 1)
    path = tmp_path / "a.json"
    path.write_text(broken)
    rows, lost, _ = outcome(datasets.read(path))
    assert (rows, len(lost)) == ([row, row], 1)


def test_a_broken_row_before_a_large_rest_does_not_read_it_all_at_once(tmp_path):
    rows = [{"prompt": "p" * 200, "completion": str(k)} for k in range(20_000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows).replace('"completion": "0"', '"completion": "0"x', 1))
    found, lost, _ = outcome(datasets.read(path))
    assert (len(found), len(lost)) == (19_999, 1)


def test_arrays_one_after_another_are_all_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"prompt": "a", "completion": "b"}]\n[{"prompt": "c", "completion": "d"}]')
    rows, lost, faults = outcome(datasets.read(path))
    assert ([row["prompt"] for row in rows], lost) == (["a", "c"], [])
    assert "after the end of the array" in faults[0].location.message


@pytest.mark.parametrize(
    ("text", "kept", "named"),
    [
        ('p,c\n"a,1\nb,2\n"c,3\nd,4\n', ["b", "d"], [2, 4]),
        ('p,c\na,1\n"b,2\nc,3\n"d","4"\ne,5\n', ["a", "c", "d", "e"], [3]),
        ('p,c\n"a ""quoted""\nb",1\n"x\ny",2\n', ['a "quoted"\nb', "x\ny"], []),
        ('p,c\na,1\n"b,2', ["a"], [3]),
        ('p,c\n"a "b" c",1\nd,2\n', ['a "b" c', "d"], []),
        (
            'p,c\nToys "R Us,1\n"Toys "R" Us",2\n"Bolio"s",3\n',
            ['Toys "R Us', 'Toys "R" Us', 'Bolio"s'],
            [],
        ),
        ('p,c\n"val1,val2\nval3,val4\n', ["val3"], [2]),
        ('p,c\n1,"a comment\u201d\n2,Lorem\n3,"fine"\n', ["2", "3"], [2]),
        ('p,c\n1,"def\n2,"O"\n3,x\n', ["2", "3"], [2]),
        ("p,c\na,1,2\nb\n,\nc,3\n", ["", "c"], [2, 3]),
    ],
)
def test_quotes_that_do_not_fit_cost_their_own_line_alone(tmp_path, text, kept, named):
    path = tmp_path / "a.csv"
    path.write_text(text)
    rows, lost, _ = outcome(datasets.read(path))
    assert [fault.location.line for fault in lost] == named
    if kept is not None:
        assert [row["p"] for row in rows] == kept


def test_columns_without_a_name_and_with_the_same_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",prompt,completion,prompt\n0,a,b,c\n")
    (row,) = datasets.read(path).readable_rows()
    assert row.value == {"column 1": "0", "prompt": "a", "completion": "b", "prompt (2)": "c"}
    write_workbook(tmp_path / "a.xlsx", [["prompt", "", "completion", "prompt"], list("abcd")])
    (row,) = datasets.read(tmp_path / "a.xlsx").readable_rows()
    assert row.value == {"prompt": "a", "column B": "b", "completion": "c", "prompt (2)": "d"}


def test_frames_with_two_columns_of_one_name_keep_both():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_arrays([arrow.array(["a"]), arrow.array(["b"])], ["x", "x"])
    assert [row.value for row in datasets.read(table)] == [{"x": "a", "x (2)": "b"}]


def test_a_mapping_of_columns_is_read_and_of_other_things_refused():
    columns = {"prompt": ["a", "b"], "completion": ["c", "d"]}
    assert [row.value["completion"] for row in datasets.read(columns)] == ["c", "d"]
    with pytest.raises(datasets.UnreadableError, match="'train', 'test'"):
        datasets.read({"train": [1], "test": [1, 2]})


def test_a_file_object_at_its_end_says_so():
    stream = io.StringIO('{"prompt": "a", "completion": "b"}\n')
    stream.read()
    with pytest.raises(datasets.UnreadableError, match=r"seek\(0\)"):
        datasets.read(stream)


# The property, over every reader

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
RECORD = st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT})
ROWS = st.lists(RECORD, min_size=1, max_size=8)
BROKEN = st.sampled_from(['{"prompt": "x",}', "[1]", "7", '{"a": NaN}', "{'a': 1}", '"text"'])


def plain(rows):
    return [row for row in rows if any(row.values())]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, broken=st.lists(st.tuples(st.integers(0, 8), BROKEN), max_size=4))
def test_every_record_of_jsonl_and_json_is_a_row_or_named(tmp_path, rows, broken):
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    for place, text in broken:
        lines.insert(place, text)
    texts = {"a.jsonl": "\n".join(lines), "a.json": "[\n" + ",\n".join(lines) + "\n]"}
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        found, lost, _ = outcome(datasets.read(path, format=path.suffix[1:]))
        assert (found, len(lost)) == (rows, len(broken)), name


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, wide=st.integers(0, 2), delimiter=st.sampled_from([",", "\t"]))
def test_every_record_of_a_table_is_a_row_or_named(tmp_path, rows, wide, delimiter):
    path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerow(["prompt", "completion"])
        writer.writerows([row["prompt"], row["completion"]] for row in rows)
        writer.writerows([["too", "wide", "a row"]] * wide)
    found, lost, _ = outcome(datasets.read(path))
    assert (found, len(lost)) == (rows, wide)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, extra=st.integers(0, 3))
def test_every_record_of_other_sources_is_a_row_or_named(tmp_path, rows, extra):
    cells = [[row["prompt"], row["completion"], *["note"] * extra] for row in rows]
    path = write_workbook(tmp_path / "a.xlsx", [["prompt", "completion"], *cells])
    found, lost, _ = outcome(datasets.read(path))
    assert (len(found), lost) == (len(rows if extra else plain(rows)), [])
    found, lost, _ = outcome(datasets.read([*rows, *[None] * extra]))
    assert (found, len(lost)) == (rows, extra)
    columns = datasets.read(
        [*rows, *[{"prompt": "x"}] * extra], prompt="prompt", completion="completion"
    )
    found, lost, _ = outcome(columns)
    assert (found, len(lost)) == (rows, extra)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"completion": st.sampled_from(["", "yes", "no", "yes", " a END", "\ud800", None, 7])},
            optional={"prompt": TEXT, "note": TEXT},
        ),
        min_size=2,
        max_size=30,
    ),
    repeated=st.integers(0, 5),
)
def test_every_row_is_in_the_fixed_rows_or_counted_by_the_fix_that_drops_it(rows, repeated):
    data = [{"prompt": "p", "completion": "c"}, *rows, *rows[:repeated]]
    plan = datasets.read(data).plan()
    dropped = sum(fix.count for fix in plan.fixes if fix.id.startswith("drop-"))
    assert len(list(plan.rows())) + dropped == len(data)


def test_no_field_with_text_is_left_out_uncounted():
    data = [{"prompt": f"p{k}", "completion": f"c{k}", "id": k, "note": None} for k in range(20)]
    (fix,) = [fix for fix in datasets.read(data).plan().fixes if fix.id == "keep-fields"]
    assert "'id' (20 rows with text), 'note' (0 rows with text)" in fix.description
    assert (fix.count, fix.necessary) == (20, False)
    plan = datasets.read(data).plan().disable("keep-fields")
    assert all(row.value["id"] == row.line - 1 for row in plan.rows())


def test_a_column_that_is_missing_in_a_wide_table_is_told_shortly(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{k}" for k in range(1000)) + "\n" + ",".join("x" * 1000) + "\n")
    with pytest.raises(DatasetError) as raised:
        datasets.read(path).plan()
    assert len(str(raised.value)) < 500
