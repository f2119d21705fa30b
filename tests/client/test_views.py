"""Streaming views: one unread response; operations that make several requests are rejected."""

from __future__ import annotations

from typing import Any

import pytest

import tunesmith
from http_stub import answer


def opened(mode: Any, response: Any) -> Any:
    """Enter a streamed response in either mode, and leave it."""
    if mode.runner is None:
        with response as entered:
            return entered.parse()

    async def main() -> Any:
        async with response as entered:
            return await entered.parse()

    return mode.runner.run(main())


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("training_file is a path", lambda c: c.fine_tunes.create(training_file=__file__)),
        ("fine_tunes.delete", lambda c: c.fine_tunes.delete("ft-1")),
        ("fine_tunes.wait", lambda c: c.fine_tunes.wait("ft-1")),
        ("fine_tunes.follow", lambda c: c.fine_tunes.follow("ft-1")),
        ("fine_tunes.results", lambda c: c.fine_tunes.results("ft-1")),
        ("fine_tuning.jobs.wait", lambda c: c.fine_tuning.jobs.wait("ftjob-1")),
        ("fine_tuning.jobs.follow", lambda c: c.fine_tuning.jobs.follow("ftjob-1")),
        ("fine_tuning.jobs.results", lambda c: c.fine_tuning.jobs.results("ftjob-1")),
        ("files.wait_for_processing", lambda c: c.files.wait_for_processing("file-1")),
        ("files.find_matching", lambda c: c.files.find_matching(__file__)),
        (
            "uploads.upload_file_chunked",
            lambda c: c.uploads.upload_file_chunked(
                file=b"", mime_type="text/plain", purpose="fine-tune"
            ),
        ),
        ("iterated", lambda c: c.fine_tuning.jobs.events("ftjob-1")),
    ],
)
def test_an_operation_of_several_requests_cannot_be_streamed(mode, stub, name, ask):
    view = mode.client(stub.url).with_streaming_response
    with pytest.raises(tunesmith.TunesmithError, match=name):
        opened(mode, ask(view))
    assert stub.requests == []


def test_a_fine_tune_by_id_is_one_request_and_can_be_streamed(mode, stub):
    stub.then(answer({
        "id": "ft-1", "created_at": 1, "updated_at": 1, "model": "curie", "status": "pending",
        "organization_id": "o", "hyperparams": {}, "training_files": [], "validation_files": [],
        "result_files": [],
    }))  # fmt: skip
    view = mode.client(stub.url).with_streaming_response
    assert opened(mode, view.fine_tunes.create(training_file="file-1")).id == "ft-1"
