"""What notebooks show of wire objects, pages, results: readable tables, everything escaped."""

from __future__ import annotations

import html.parser

import pytest

from tunesmith import results
from tunesmith.core.paging import PageCursor, PageData
from tunesmith.transport.pages import AsyncPage, Page
from tunesmith.types import FileObject, FineTune, FineTuningJob, FineTuningJobEvent, Model

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
EVENT = {"id": "ftevent-1", "created_at": 0, "level": "info", "message": HOSTILE}
FILE = {"id": "file-1", "bytes": 5, "created_at": 0, "filename": HOSTILE, "purpose": "fine-tune"}
JOB = {
    "id": "ftjob-1", "created_at": 1, "hyperparameters": {"n_epochs": 3}, "model": HOSTILE,
    "organization_id": "org", "result_files": ["file-1", HOSTILE], "status": "running",
    "training_file": "file-1", "metadata": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE,
}  # fmt: skip
FINE_TUNE = {
    "id": "ft-1", "created_at": 0, "updated_at": 60, "model": "ada", "organization_id": "org",
    "status": "running", "hyperparams": {"n_epochs": 4}, "training_files": [FILE],
    "validation_files": [], "result_files": [], "events": [EVENT],
}  # fmt: skip
OBJECTS = [
    FineTuningJob.model_validate(JOB),
    FineTune.model_validate(FINE_TUNE),
    FineTuningJobEvent.model_validate(EVENT),
    FileObject.model_validate(FILE),
    Model(id=HOSTILE, created=0, owned_by="me"),
]
TABLE = results.parse(f'step,"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n1,2\n')


class Reader(html.parser.HTMLParser):
    """Checks that tags close in order, and keeps the tags and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[object] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def page(items):
    data = PageData(items, has_more=True)
    data.follow(PageCursor())
    return data


@pytest.mark.parametrize(
    "shown",
    [
        *OBJECTS,
        *(Page(page([one, one]), None, None) for one in OBJECTS),
        AsyncPage(page(OBJECTS[:1]), None, None),
        Page(page([]), None, None),
        TABLE,
        TABLE.summary(),
        results.compare({HOSTILE: TABLE, "other": TABLE}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_only_plain_elements_and_no_markup_of_others(shown):
    read = Reader(shown._repr_html_())
    plain = {"table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "br"}
    assert read.tags <= plain
    assert read.attributes == []


def test_a_job_shows_its_fields_that_have_a_value():
    text = Reader(OBJECTS[0]._repr_html_()).text
    assert "FineTuningJob" in text
    assert "running" in text
    assert "1970-01-01 00:00:01 UTC" in text
    assert HOSTILE in text
    assert "finished_at" not in text


def test_a_fine_tune_shows_its_files_and_events_as_tables():
    read = Reader(OBJECTS[1]._repr_html_())
    assert "filename" in read.text
    assert "1970-01-01 00:01:00 UTC" in read.text


def test_a_page_shows_a_row_an_object_and_says_whether_more_follow():
    text = Reader(Page(page([OBJECTS[3], OBJECTS[3]]), None, None)._repr_html_()).text
    assert text.startswith("2 on this page, more follow id filename bytes purpose")
    assert text.count("file-1") == 2
