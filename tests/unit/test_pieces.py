"""Pieces and lines do not depend on how a body arrives in chunks."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith import TunesmithError
from tunesmith.core.pieces import LineReader, Pieces, TextReader

ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
BODIES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([*ENDS, "a", "ä", "😀", ""]), max_size=20).map(
        lambda parts: "".join(parts).encode()
    ),
)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """Return a body in chunks that end at some places."""
    ends = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def lines(chunks: list[bytes]) -> list[str]:
    reader = LineReader()
    found = [line for chunk in chunks for line in reader.feed(chunk)]
    return [*found, *reader.finish()]


@given(BODIES, st.lists(st.integers(0, 99), max_size=5))
@example(b'{"a":"x\xe2\x80\xa8y\xc2\x85z"}\n{"b":1}\r\n', [5, 9, 25])
@example(b"a\r\nb\rc", [2])
def test_lines_are_those_that_open_reads(body, places):
    opened = io.TextIOWrapper(io.BytesIO(body), "utf-8", "replace", newline=None)
    assert lines(cut(body, places)) == [line.removesuffix("\n") for line in opened]


@given(BODIES, st.lists(st.integers(0, 99), max_size=5), st.integers(1, 9))
def test_pieces_have_one_size(body, places, size):
    pieces: Pieces[bytes] = Pieces(size)
    found = [piece for chunk in cut(body, places) for piece in pieces.feed(chunk)]
    found += pieces.finish()
    assert found == [body[start : start + size] for start in range(0, len(body), size)]
    reader = TextReader()
    assert "".join([*map(reader.feed, cut(body, places)), reader.finish()]) == body.decode(
        "utf-8", "replace"
    )


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "3"])
def test_a_size_that_is_none(size):
    with pytest.raises(TunesmithError, match="chunk_size is a whole number of 1 or more"):
        Pieces(size)


def test_one_long_line_is_read_in_linear_time():
    """A line of 32 MB in 8,192 chunks: joined once, not once for each chunk."""
    reader = LineReader()
    for _ in range(8192):
        assert reader.feed(b"x" * 4096) == []
    assert [len(line) for line in reader.finish()] == [1 << 25]
