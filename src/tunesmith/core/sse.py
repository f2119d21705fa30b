r"""Server-sent events, decoded as the HTML standard defines them (section 9.2.6).

A push decoder: bytes in, complete events out. Lines end with LF, CR LF or CR; a byte
order mark at the start is skipped; comments, unknown fields and events without data are
not dispatched; an incomplete event at the end of the stream is dropped. Data stays
bytes, so that a character split between two packets needs no special handling.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ServerSentEvent", "ServerSentEventDecoder"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_RETRY_DIGITS = 12


class ServerSentEvent(NamedTuple):
    """One event.

    Attributes:
        data: The data lines, joined with a line feed.
        event: The event type, "message" if the stream does not set one.
        id: The last event id seen so far.
        retry: Milliseconds to wait before a reconnection, as the server last requested.
    """

    data: bytes
    event: str = "message"
    id: str = ""
    retry: int | None = None


class ServerSentEventDecoder:
    """Decodes the bytes of one stream into events.

    Feed every chunk of the body as it arrives; each call returns the events that it
    completes.
    """

    __slots__ = ("_buffer", "_data", "_event", "_id", "_retry", "_skip_line_feed", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._skip_line_feed = False
        self._started = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that `chunk` completes, in order."""
        text = self._buffer + chunk if self._buffer else chunk
        if not self._started:
            if len(text) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(text):
                self._buffer = text
                return []
            self._started = True
            text = text.removeprefix(_BYTE_ORDER_MARK)
        if self._skip_line_feed and text:
            # The CR before it already ended the line; CR LF is one line end.
            text = text.removeprefix(b"\n")
            self._skip_line_feed = False
        if b"\r" in text:
            return self._feed_any_line_end(text)
        if not self._data and not self._event:
            return self._feed_blocks(text)
        return self._feed_lines(text)

    def _feed_blocks(self, text: bytes) -> list[ServerSentEvent]:
        """Decode the common case quickly: whole events that are one `data: ` line each."""
        *blocks, rest = text.split(b"\n\n")
        events: list[ServerSentEvent] = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(ServerSentEvent(block[6:], "message", self._id, self._retry))
                continue
            for line in block.split(b"\n"):
                self._take_line(line, events)
            self._take_line(b"", events)
        self._buffer = rest
        return events

    def _feed_lines(self, text: bytes) -> list[ServerSentEvent]:
        *lines, self._buffer = text.split(b"\n")
        events: list[ServerSentEvent] = []
        for line in lines:
            self._take_line(line, events)
        return events

    def _feed_any_line_end(self, text: bytes) -> list[ServerSentEvent]:
        if text.endswith(b"\r"):
            self._skip_line_feed = True
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self._feed_lines(lines)

    def _take_line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < _MAX_RETRY_DIGITS:
            self._retry = int(value)

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            data = b"\n".join(self._data)
            events.append(ServerSentEvent(data, self._event or "message", self._id, self._retry))
            self._data = []
        self._event = ""
