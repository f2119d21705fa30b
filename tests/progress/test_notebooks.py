"""What a notebook shows: objects as tables, an error as one paragraph, progress drawn in place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from http_stub import Stub, answer
from tunesmith import BadRequestError, MissingExtraError, TunesmithError, datasets
from tunesmith._notebook import one_paragraph

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def test_a_data_set_shows_its_first_rows():
    shown = datasets.read(EXAMPLES / "reviews.csv")._repr_html_()
    assert "<th>text</th><th>label</th>" in shown
    assert shown.count("<tr>") == 6
    chat = datasets.Dataset.from_rows(
        [{"messages": [{"role": "user", "content": "<b>hi</b>\n"}]}, {"note": "x" * 1000}]
    )._repr_html_()
    assert "<strong>user</strong>: &lt;b&gt;hi&lt;/b&gt;<br>" in chat
    assert f"{'x' * 300}…<" in chat


def test_what_cannot_be_read_says_so(tmp_path):
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04" + b"\0" * 20)
    shown = datasets.read(tmp_path / "broken.xlsx")._repr_html_()
    assert "broken.xlsx" in shown


def test_a_plan_and_a_split_show_themselves():
    data = datasets.read(EXAMPLES / "reviews.csv", prompt="text", completion="label")
    plan = data.plan()
    shown = plan._repr_html_()
    assert "<strong>Plan</strong>" in shown
    for fix in plan.fixes:
        assert f"<code>{fix.id}</code>" in shown
    ready = plan.apply()
    assert "Nothing needs to be changed." in ready.plan()._repr_html_()
    halves = ready.split(0.25)._repr_html_()
    assert "training: 30 rows" in halves
    assert "validation: 10 rows" in halves


def test_an_error_is_one_paragraph_below_the_users_own_lines():
    def raising():
        raise BadRequestError("no model 'x'; use 'ada'")

    with pytest.raises(TunesmithError) as caught:
        raising()
    *lines, last = one_paragraph(caught.value)
    assert last == "\x1b[31mBadRequestError: no model 'x'; use 'ada'\x1b[0m"
    assert lines[-1].endswith("raise BadRequestError(\"no model 'x'; use 'ada'\")")
    assert caught.value._render_traceback_() == [*lines, last]
    assert isinstance(MissingExtraError("X", "plots"), ImportError)


def test_a_plain_traceback_is_whole():
    script = "import tunesmith; tunesmith.Client(base_url='nonsense', api_key='k')"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.stderr.startswith("Traceback (most recent call last):\n")
    assert "\x1b" not in ran.stderr


@pytest.mark.slow
def test_in_a_kernel():
    """A real kernel, as every notebook front end has one: errors, tables and progress."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    stub = Stub()
    stub.then(answer({"error": {"message": "There is no model x. Use ada."}}, 404))
    begins = f"""
import tunesmith
client = tunesmith.Client(base_url={stub.url!r}, api_key="k")
def mine(name):
    return client.models.retrieve(name)
"""
    follows = """
from tunesmith.progress.views import open_view
view = open_view()
view.event("Step 1/2: training loss=0.50", 1)
view.event("Done", 2)
view.close()
"""
    table = f"tunesmith.datasets.read({str(EXAMPLES / 'reviews.csv')!r})"
    cells = (begins, "# the user's own line\nmine('x')", table, follows, "1 / 0")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    nbclient.NotebookClient(notebook, allow_errors=True, timeout=60).execute()
    stub.close()
    _, failed, shown, progress, foreign = (cell["outputs"] for cell in notebook.cells)
    (error,) = [one for one in failed if one["output_type"] == "error"]
    assert error["ename"] == "NotFoundError"
    own, inner, said = error["traceback"]
    assert own == "line 2: mine('x')"
    assert inner == "line 4: return client.models.retrieve(name)"
    assert said.startswith("\x1b[31mNotFoundError: There is no model x. Use ada.")
    assert "<table>" in shown[0]["data"]["text/html"]
    assert shown[0]["data"]["text/plain"].startswith("Dataset(")
    assert len(progress) == 1
    assert 'max="2"' in progress[0]["data"]["text/html"]
    assert progress[0]["data"]["text/plain"].splitlines()[0].endswith("Done")
    assert "Traceback" in json.dumps(foreign)
