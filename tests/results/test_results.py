import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import TunesmithError
from tunesmith.results import ResultFileError, compare, parse, read

FIRST_API = """\
step,elapsed_tokens,elapsed_examples,training_loss,training_sequence_accuracy,training_token_accuracy,validation_loss,validation_sequence_accuracy,validation_token_accuracy,classification/accuracy,classification/f1.0
1,92,4,2.5,0.0,0.25,,,,,
2,180,8,1.5,0.5,0.5,1.25,0.25,0.5,,
3,260,12,0.5,1.0,1.0,,,,0.75,0.8
"""
SECOND_API = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.25,,\n"


def results_with_validation(losses):
    rows = "".join(f"{step},1.0,{loss}\n" for step, loss in enumerate(losses, start=1))
    return parse("step,training_loss,validation_loss\n" + rows)


def test_rows_are_typed_and_empty_cells_are_none():
    first, second, third = parse(FIRST_API)
    assert (first.step, first.elapsed_tokens, first.elapsed_examples) == (1, 92, 4)
    assert first.validation_loss is None
    assert first.classification == {}
    assert second.validation_loss == 1.25
    assert third.classification == {"accuracy": 0.75, "f1.0": 0.8}


def test_both_apis_name_the_same_figures():
    results = parse(SECOND_API)
    assert results.rows[0].training_loss == 2.5
    assert results.rows[0].training_token_accuracy == 0.25
    assert results.series("training_loss") == results.series("train_loss") == [(1, 2.5)]


def test_base64_is_unwrapped():
    wrapped = base64.encodebytes(FIRST_API.encode())
    assert parse(wrapped) == parse(FIRST_API)
    assert parse(wrapped.decode()) == parse(FIRST_API)


def test_unknown_columns_are_kept():
    results = parse("step,grad_norm\n1,0.5\n")
    assert results.rows[0].other == {"grad_norm": 0.5}
    assert results.columns == ("step", "grad_norm")


def test_a_table_survives_the_round_trip_to_csv():
    assert parse(parse(FIRST_API).to_csv()) == parse(FIRST_API)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_every_number_survives_the_round_trip(losses):
    results = results_with_validation(losses)
    assert parse(results.to_csv()).cells == results.cells


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "no column 'step'"),
        (b"<html>\n", "no column 'step'"),
        (b"step,loss\n1,0.5\n2,high\n", "Line 3 of the result file: loss is 'high'"),
        (b"step,loss\n1\n", "Line 2 of the result file has 1 cells"),
        (b"step,step\n1,1\n", "twice"),
        (b"step,\xff\n", "byte 5"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_place(content, named):
    with pytest.raises(ResultFileError, match=named):
        parse(content)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ResultFileError, match="cannot be read"):
        read(tmp_path / "results.csv")


def test_the_summary_says_where_it_started_and_ended():
    summary = parse(FIRST_API).summary()
    assert (summary.first_training_loss, summary.final_training_loss) == (2.5, 0.5)
    assert summary.classification == {"accuracy": 0.75, "f1.0": 0.8}
    assert summary.best_epoch_metric == ("accuracy", 0.75, 3)
    assert "3 steps, 12 examples, 260 tokens" in str(summary)
    assert "accuracy 0.750" in str(summary)


def test_over_fitting_is_said_and_dated():
    rising = results_with_validation([2.0, 1.0, 0.5, 0.8, 1.2]).summary()
    assert rising.overfitting
    assert rising.best_step == 3
    assert "over-fits" in str(rising)
    assert not results_with_validation([2.0, 1.0, 0.5, 0.4, 0.41]).summary().overfitting


def test_an_empty_file_has_an_empty_summary():
    summary = parse("step,training_loss\n").summary()
    assert summary.steps == 0
    assert summary.final_training_loss is None


def test_jobs_are_compared_by_what_they_share():
    worse = results_with_validation([2.0, 1.5])
    better = results_with_validation([2.0, 0.5])
    comparison = compare({"worse": worse, "better": better})
    assert comparison.metric == "validation_loss"
    assert [name for name, _, _ in comparison.entries] == ["better", "worse"]
    assert str(comparison).splitlines()[1].startswith("better")
    assert compare({"a": better, "b": parse(SECOND_API)}).metric == "training_loss"
    assert compare({"a": parse(FIRST_API)}).metric == "accuracy"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_curves_are_drawn(tmp_path, ending):
    path = tmp_path / f"curves.{ending}"
    figure = parse(FIRST_API).plot(path, title="job")
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[ending])
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines if not line.get_label().startswith("_")] == [
        "training",
        "validation",
    ]
    assert "accuracy" in [line.get_label() for line in accuracy.lines]
    assert list(tmp_path.iterdir()) == [path]


def test_html_escapes_what_the_file_says():
    html = parse("step,<script>\n1,2\n")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_becomes_a_data_frame_with_the_files_own_columns(library):
    pytest.importorskip(library)
    table = parse(FIRST_API)
    frame = getattr(table, f"to_{library}")()
    assert list(frame.columns) == list(table.columns)
    assert frame["training_loss"].to_list() == [2.5, 1.5, 0.5]
    missing = frame["validation_loss"].to_list()[0]
    assert missing is None or missing != missing  # noqa: PLR0124 - pandas says NaN


def test_a_table_is_written_whole(tmp_path):
    path = tmp_path / "results.csv"
    table = parse(FIRST_API)
    assert table.to_csv(path) == path.read_text(encoding="utf-8")
    assert read(path) == table
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_data_frame_library_is_an_error_with_the_way_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(TunesmithError, match=r"pip install (.* )?polars"):
        parse(FIRST_API).to_polars()
