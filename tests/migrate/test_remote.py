"""Reading a service exactly: the traps of lists, limits and large contents."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from http_stub import HANG_UP, Stub, answer, raw
from tunesmith import APIConnectionError, Client, NotFoundError
from tunesmith.migrate.remote import Remote, Throttle, status_of
from tunesmith.migrate.secrets import SecretScanner

from .conftest import FAST


@pytest.fixture
def stub() -> Any:
    server = Stub()
    yield server
    server.close()


class Reader:
    """Reads a list or a content from a stub."""

    def __init__(self, stub: Stub) -> None:
        self.client = Client("key", base_url=stub.url, retry=FAST)
        self.remote = Remote(self.client._executor.settings, Throttle(), 4)

    def run(self, flow: Any) -> Any:
        return self.client._executor.run(flow)

    def pages(self, **options: Any) -> tuple[list[str], Any]:
        found: list[str] = []

        def take(items: list[dict[str, Any]]) -> Any:
            found.extend(one["id"] for one in items)
            yield from ()

        return found, self.run(self.remote.pages("/files", take, **options))


@pytest.fixture
def reader(stub: Stub) -> Any:
    made = Reader(stub)
    yield made
    made.client.close()


def served(ids: list[str], **quirks: Any) -> Any:
    """A list of a service: `says` whether has_more is sent, `dead` cursors, a longest page."""

    def handle(request: Any) -> Any:
        query = {name: value[0] for name, value in parse_qs(urlsplit(request.path).query).items()}
        after = query.get("after")
        if after in quirks.get("dead", ()):
            return answer({"error": {"message": f"No such {after}"}}, 404)
        start = ids.index(after) + 1 if after else 0
        end = start + min(int(query["limit"]), quirks.get("most", 3))
        page = {"object": "list", "data": [{"id": one} for one in ids[start:end]]}
        if quirks.get("says", True):
            page["has_more"] = end < len(ids)
        return answer(page)

    return handle


IDS = [f"file-{at}" for at in range(10)]


@pytest.mark.parametrize("says", [True, False])
def test_a_list_is_read_to_its_end_whether_or_not_it_says_that_more_follows(stub, reader, says):
    stub.handle = served(IDS, says=says)
    found, listing = reader.pages()
    assert (found, listing.problem) == (IDS, None)


def test_pages_may_be_shorter_than_asked_for(stub, reader):
    stub.handle = served(IDS, most=2)
    assert reader.pages(limit=10_000)[0] == IDS


@pytest.mark.parametrize("dead", [{"file-2"}, {"file-2", "file-5"}, {"file-1", "file-2"}])
def test_a_cursor_whose_object_was_deleted_loses_nothing(stub, reader, dead):
    stub.handle = served(IDS, dead=dead)
    found, listing = reader.pages()
    assert (found, listing.problem) == (IDS, None)


def test_a_list_goes_on_after_what_was_read_before_even_if_all_of_that_is_gone(stub, reader):
    stub.handle = served(IDS)
    assert reader.pages(known=IDS[:4])[0] == IDS[4:]
    stub.handle = served(IDS[4:], dead=set(IDS[:4]))
    assert reader.pages(known=IDS[:4])[0] == IDS[4:]


def test_an_empty_page_before_the_end_is_asked_for_again(stub, reader):
    empty = answer({"data": [], "has_more": True})
    first = answer({"data": [{"id": "a"}], "has_more": True})
    stub.then(first, empty, empty, answer({"data": [{"id": "b"}], "has_more": False}))
    found, listing = reader.pages()
    assert (found, listing.problem) == (["a", "b"], None)


def test_a_list_that_never_ends_is_told_as_incomplete(stub, reader):
    """A gateway that ignores `after` sends the same page for ever."""
    stub.handle = lambda _: answer({"data": [{"id": "a"}, {"id": "b"}], "has_more": True})
    found, listing = reader.pages()
    assert found == ["a", "b"]
    assert "sends none of it" in listing.problem
    stub.handle = lambda _: answer({"data": [{"id": "a"}, {"id": "b"}]})
    found, listing = reader.pages()
    assert (found, listing.problem) == (["a", "b"], None)


def test_an_object_on_two_pages_is_read_once(stub, reader):
    stub.then(
        answer({"data": [{"id": "a"}, {"id": "b"}], "has_more": True}),
        answer({"data": [{"id": "b"}, {"id": "c"}], "has_more": False}),
    )
    assert reader.pages()[0] == ["a", "b", "c"]


def test_retry_after_holds_every_request_of_the_key(stub, reader):
    refused = answer({"error": {"message": "slow down"}}, 429, retry_after_ms="30")
    stub.then(refused, refused, refused, refused, answer({"data": [], "has_more": False}))
    assert reader.pages()[0] == []
    assert len(stub.requests) == 5


def test_the_last_requests_of_a_window_are_spread_over_it():
    throttle = Throttle()
    fields = {"x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "1m30s"}
    throttle.saw(fields, workers=4)
    waited = next(throttle.wait()).seconds
    assert 40 < waited <= 45
    calm = Throttle()
    calm.saw(fields | {"x-ratelimit-remaining-requests": "100"}, workers=4)
    calm.saw({}, workers=4)
    calm.saw({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, 4)
    assert list(calm.wait()) == []


def test_a_content_that_breaks_off_is_read_again_from_its_beginning(stub, reader):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
    stub.then(raw(head, b"01234", HANG_UP), raw(head, b"0123456789"))
    pieces: list[bytes] = []
    reader.run(reader.remote.download("/files/a/content", pieces.append, pieces.clear))
    assert b"".join(pieces) == b"0123456789"
    stub.handle = lambda _: raw(head, b"01234", HANG_UP)
    with pytest.raises(APIConnectionError):
        reader.run(reader.remote.download("/files/a/content", pieces.append, pieces.clear))


def test_errors_say_what_became_of_a_thing(stub, reader):
    def error(status: int) -> Any:
        stub.then(answer({"error": {"message": "m"}}, status))
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of several classes
            reader.run(reader.remote.get("/files/a"))
        return caught.value

    assert [status_of(error(status)) for status in (400, 401, 403, 404, 410)] == [
        "forbidden", "forbidden", "forbidden", "gone", "gone",
    ]  # fmt: skip
    missing = error(404)
    assert isinstance(missing, NotFoundError)
    assert status_of(missing, expires_at=1) == "expired"
    assert status_of(error(410), expires_at=1) == "expired"
    stub.handle = lambda _: answer({"error": {"message": "m"}}, 500)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        reader.run(reader.remote.get("/files/a"))
    assert status_of(caught.value) == "partial"


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_pasted_secrets_are_found_in_pieces_of_any_size(size):
    text = (
        b"x" * 500 + b" sk-abcdefghijklmnopqrstuvwx " + b"y" * 333
        + b'{"AKIAIOSFODNN7EXAMPLE": "ghp_' + b"a" * 36 + b'"}' + b"-----BEGIN RSA PRIVATE KEY-----"
        + b" hf_" + b"q" * 34 + b" https://a.test/b?X-Amz-Signature=0123456789abcdef "
        + b"z" * 700 + b" sk-proj-" + b"0" * 60
    )  # fmt: skip
    scanner = SecretScanner()
    for start in range(0, len(text), size):
        scanner.feed(text[start : start + size])
    assert scanner.finish() == {
        "API key": 2, "AWS access key": 1, "GitHub token": 1, "private key": 1,
        "Hugging Face token": 1, "signed URL": 1,
    }  # fmt: skip


def test_ordinary_texts_hold_no_secrets():
    scanner = SecretScanner()
    scanner.feed(b"ask-me-anything about risk-management-of-large-projects: file-abcdefghij")
    assert not scanner.finish()
