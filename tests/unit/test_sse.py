"""The event decoder against the standard's own examples, and on any split of the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.sse import ServerSentEventDecoder

# The examples of section 9.2.6 of the HTML standard, as (stream, [(type, data, id)]).
EXAMPLES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", b"YHOO\n+2\n10", "")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        [("message", b"first event", "1"), ("message", b"second event", "")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [("message", b"", ""), ("message", b"\n", "")]),
    (b"data:test\n\ndata: test\n\n", [("message", b"test", ""), ("message", b"test", "")]),
    (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [("add", b"73857293", ""), ("remove", b"2153", ""), ("add", b"113411", "")],
    ),
    (b"\xef\xbb\xbfdata: after a mark\r\n\r\n", [("message", b"after a mark", "")]),
    (b"data: a\rdata: b\r\rdata: c\r\n\r\n", [("message", b"a\nb", ""), ("message", b"c", "")]),
    (b"event: ping\n\nretry: 10\n\ndata: x\n\n", [("message", b"x", "")]),
    (
        b"id: 1\0\ndata: x\n\nretry: 1e3\ndata: y\n\n",
        [("message", b"x", ""), ("message", b"y", "")],
    ),
    ("data: ä😀\n\n".encode(), [("message", "ä😀".encode(), "")]),
]


def by_the_standard(stream: bytes) -> list[tuple[str, bytes, str]]:
    """The steps of section 9.2.6, word for word and slowly."""
    text = stream.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    data, kind, last_id, found = "", "", "", []
    for line in lines[:-1]:
        if line == "":
            if data:
                found.append((kind or "message", data.removesuffix("\n"), last_id))
            data, kind = "", ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data += value + "\n"
            elif name == "id" and "\0" not in value:
                last_id = value
    return [
        (kind, data.encode("utf-8", "surrogateescape"), last_id) for kind, data, last_id in found
    ]


def decode(*pieces: bytes) -> list[tuple[str, bytes, str]]:
    decoder = ServerSentEventDecoder()
    return [
        (event.event, event.data, event.id) for piece in pieces for event in decoder.feed(piece)
    ]


@pytest.mark.parametrize(("stream", "events"), EXAMPLES)
def test_examples(stream, events):
    assert decode(stream) == events


@pytest.mark.parametrize(("stream", "events"), EXAMPLES)
def test_examples_byte_by_byte(stream, events):
    assert decode(*(bytes([byte]) for byte in stream)) == events


def test_retry_is_remembered():
    events = ServerSentEventDecoder().feed(b"retry: 2500\ndata: a\n\n")
    assert events[0].retry == 2500


PIECES = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"event: error", b"id: 7", b"id", b": note", b"retry: 5", b"x", b"\n",
         b"\r", b"\r\n", b"\n\n", b"\xc3\xa4", b" ", b"\xef\xbb\xbf", b"data"]
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(PIECES, st.data())
def test_any_split_gives_the_same_events(pieces, data):
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]
    parts = [stream[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    assert decode(*parts) == decode(*(bytes([byte]) for byte in stream))
    assert decode(stream) == decode(*parts) == by_the_standard(stream)


@pytest.mark.parametrize(
    ("rest", "data"),
    [(b"data: last", [b"last"]), (b"data: last\n", [b"last"]), (b"data: a\ndata: b", [b"a\nb"]),
     (b"event: x", []), (b"dat", []), (b"", []), (b"data: last\r", [b"last"])],
)  # fmt: skip
def test_finish_gives_the_event_that_the_end_cut_short(rest, data):
    for parts in ([rest], [bytes([byte]) for byte in rest]):
        decoder = ServerSentEventDecoder()
        assert [event for part in parts for event in decoder.feed(part)] == []
        assert [event.data for event in decoder.finish()] == data
        assert decoder.finish() == []


def test_the_work_is_linear_in_a_long_line():
    # Counted, not timed: no byte of a line is looked at again when the next chunk comes.
    class Counted(bytes):
        looked_at = 0

        def __contains__(self, sought):
            Counted.looked_at += len(self)
            return bytes.__contains__(self, sought)

    decoder, total = ServerSentEventDecoder(), 2_000_000
    decoder.feed(b"data: ")
    for _ in range(total // 200):
        assert decoder.feed(Counted(b"x" * 200)) == []
    (event,) = decoder.feed(b"\n\n")
    assert len(event.data) == total
    assert Counted.looked_at == 2 * total
