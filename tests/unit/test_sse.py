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
    assert decode(stream) == decode(*parts)
