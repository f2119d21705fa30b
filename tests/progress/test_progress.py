"""The progress of a followed job and its views; pure, no server."""

import io

import pytest

from tunesmith.progress.job_progress import Progress
from tunesmith.progress.notebook import NotebookView
from tunesmith.progress.text import duration
from tunesmith.progress.views import LiveView, PlainView, open_view


def test_progress_is_read_from_the_second_api_s_messages():
    progress = Progress()
    assert not progress.observe("Created fine-tuning job: ftjob-1", 0)
    assert progress.observe("Step 10/100: training loss=0.50", 100)
    assert progress.observe("Step 30/100: training loss=0.25", 120)
    assert (progress.headline, progress.loss) == ("step 30/100", 0.25)
    assert progress.seconds_left(now=120) == 70
    assert progress.detail(now=120) == "loss 0.25  1:10 left"


def test_progress_falls_back_on_epochs():
    progress = Progress()
    assert not progress.observe("Completed epoch 1/4", 10)
    assert (progress.done, progress.total, progress.unit) == (1, 4, "epoch")
    assert progress.seconds_left(now=10) is None


def test_the_servers_estimate_outweighs_the_pace():
    progress = Progress(estimated_finish=500.0)
    assert progress.seconds_left(now=100) is None
    progress.observe("Step 1/100: training loss=0.50", 100)
    progress.observe("Step 2/100: training loss=0.50", 101)
    assert progress.seconds_left(now=101) == 399
    assert progress.seconds_left(now=1000) == 0
    progress.observe("Step 100/100: training loss=0.50", 200)
    assert progress.seconds_left(now=200) is None


def test_before_the_first_step_the_status_is_the_headline():
    assert Progress().headline == "waiting"
    assert Progress(status="queued").headline == "queued"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3725, "1:02:05")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_piped_events_are_plain_lines(capsys):
    view = open_view()
    assert isinstance(view, PlainView)
    view.update("running", None)
    view.event("Step 1/2: training loss=0.50", 0)
    view.event("bad \x1b[31m", 0)
    view.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("] Step 1/2: training loss=0.50")
    assert "\x1b" not in lines[1]
    assert len(lines) == 2


def test_the_live_view_shows_step_loss_and_time_left():
    console = pytest.importorskip("rich.console").Console
    progress = pytest.importorskip("rich.progress")
    screen = console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    bar = progress.Progress(
        progress.TextColumn("{task.description} {task.fields[detail]}"), console=screen
    )
    bar.start()
    view = LiveView(bar)
    view.update("queued", None)
    bar.refresh()
    assert "queued" in screen.file.getvalue()
    view.event("Fine-tune [started]", 0)
    view.event("Step 10/40: training loss=0.50", 100)
    view.event("Step 20/40: training loss=0.25", 110)
    view.close()
    shown = screen.file.getvalue()
    assert "Fine-tune [started]" in shown
    assert "step 20/40" in shown
    assert "loss 0.25  0:20 left" in shown


def test_the_notebook_view_draws_a_bar_and_escapes_what_the_server_says():
    drawn: list[str] = []
    texts: list[str] = []
    view = NotebookView(
        lambda data: (drawn.append(data["text/html"]), texts.append(data["text/plain"]))
    )
    view.update("running", None)
    view.event("<script>alert(1)</script>", 0)
    view.event("Step 20/40: training loss=0.25", 110)
    view.close()
    assert '<progress value="20" max="40"></progress> running: step 20/40' in drawn[-1]
    assert "loss 0.25" in drawn[-1]
    assert "<script>" not in drawn[-1]
    assert "&lt;script&gt;" in drawn[-1]
    assert texts[-1].endswith("running: step 20/40  loss 0.25")
    # Three changes at once are not worth three drawings.
    assert len(drawn) == 2


def test_in_a_kernel_one_output_is_drawn_anew(monkeypatch):
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell.instance()
    published: list[dict] = []
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    monkeypatch.setattr(
        shell.display_pub,
        "publish",
        lambda data, transient, update=False, **_: published.append(
            {"html": data["text/html"], "id": transient["display_id"], "update": update}
        ),
    )
    view = open_view()
    assert isinstance(view, NotebookView)
    view.event("Job started", 0)
    view.close()
    assert {one["id"] for one in published} == {published[0]["id"]}
    assert [one["update"] for one in published] == [False, True, True]
    assert "Job started" in published[-1]["html"]
