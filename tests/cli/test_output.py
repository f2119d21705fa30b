"""What is printed: tables, progress, escapes; pure, no server."""

import pytest

from tunesmith.cli.api.completions import unescape
from tunesmith.cli.output import fields, table
from tunesmith.cli.progress_bar import progress_bar
from tunesmith.progress.text import printable


def test_a_table_aligns_its_columns_and_cuts_long_cells():
    text = table(("id", "name", "note"), [("1", None, "a"), ("22", "x" * 80, "y" * 80)])
    first, second, third = text.splitlines()
    assert first.split() == ["id", "name", "note"]
    assert second.split() == ["1", "-", "a"]
    assert third == f"22  {'x' * 59}…  {'y' * 80}"


def test_fields_show_nested_values_in_short():
    shown = fields(
        {
            "id": "a",
            "settings": {"epochs": 1, "rate": None},
            "files": [{"id": "file-1", "bytes": 2}, {"id": "file-2"}],
            "events": [{"message": "hello"}],
            "empty": [],
            "betas": [0.5, 2],
        }
    ).splitlines()
    assert [line.split(maxsplit=1)[1] for line in shown] == [
        "a",
        "epochs=1, rate=-",
        "file-1, file-2",
        "1, see --json",
        "-",
        "0.5, 2",
    ]


def test_control_codes_from_a_server_do_not_reach_the_terminal():
    assert printable("a\x1b[31mb\r\x07") == "a\ufffd[31mb\ufffd\ufffd"
    assert "\x1b" not in table(("id",), [("\x1b[2J",)])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(r"a\nb", "a\nb"), (r"\\n", r"\n"), (r"\d", r"\d"), ("\\", "\\"), ("plain", "plain")],
)
def test_escapes_of_the_shell(typed, meant):
    assert unescape(typed) == meant


def test_a_piped_download_says_each_tenth_once(capsys):
    with progress_bar() as report:
        for done in range(101):
            report("downloading", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        f"downloading: {tenth * 10} %" for tenth in range(11)
    ]
