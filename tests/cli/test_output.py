"""What is printed: tables, progress, escapes; pure, no server."""

import pytest

from tunesmith.cli.api.completions import unescape
from tunesmith.cli.live import LiveView, job_view
from tunesmith.cli.output import fields, printable, table
from tunesmith.cli.progress import Progress
from tunesmith.cli.progress_bar import progress_bar


def test_a_table_aligns_its_columns_and_cuts_long_cells():
    text = table(("id", "name", "told"), [("1", None, "a"), ("22", "x" * 80, "y" * 80)])
    first, second, third = text.splitlines()
    assert first.split() == ["id", "name", "told"]
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


def test_progress_is_read_from_the_second_api_s_messages():
    progress = Progress()
    assert not progress.observe("Created fine-tuning job: ftjob-1", 0)
    assert progress.observe("Step 10/100: training loss=0.50", 100)
    assert progress.observe("Step 30/100: training loss=0.25", 120)
    assert (progress.done, progress.total, progress.loss) == (30, 100, 0.25)
    assert progress.share == 0.3
    assert progress.seconds_left == 70


def test_progress_falls_back_on_epochs():
    progress = Progress()
    assert not progress.observe("Completed epoch 1/4", 10)
    assert (progress.done, progress.total, progress.unit) == (1, 4, "epoch")
    assert progress.seconds_left is None


def test_piped_events_are_plain_lines(capsys):
    with job_view() as view:
        view.event("Step 1/2: training loss=0.50", 0)
        view.event("bad \x1b[31m", 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("] Step 1/2: training loss=0.50")
    assert "\x1b" not in lines[1]


def test_a_piped_download_says_each_tenth_once(capsys):
    with progress_bar() as report:
        for done in range(101):
            report("downloading", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        f"downloading: {tenth * 10} %" for tenth in range(11)
    ]


def test_the_live_view_shows_step_loss_and_time_left():
    import io

    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Bar(TextColumn("{task.description} {task.fields[detail]}"), console=console) as bar:
        view = LiveView(bar)
        view.event("Fine-tune [started]", 0)
        view.event("Step 10/40: training loss=0.50", 100)
        view.event("Step 20/40: training loss=0.25", 110)
        bar.refresh()
    shown = console.file.getvalue()
    assert "Fine-tune [started]" in shown
    assert "step 20/40" in shown
    assert "loss 0.25  0:20 left" in shown
