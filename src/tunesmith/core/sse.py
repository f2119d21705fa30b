r"""Server-sent events, decoded as the HTML standard defines them (section 9.2.6).

A push decoder: bytes in, complete events out. Lines end with LF, CR LF or CR; a byte
order mark at the start is skipped; comments, unknown fields and events without data are
not dispatched. Data stays bytes, so that a character split between two packets needs no
special handling. The work is linear in the bytes, however they are cut into chunks.

The standard drops an event that no blank line ends. `feed` does so too; `finish` gives it
to a reader that knows from the data itself whether it is whole.
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

    Attributes:
        stray_error: The value of a field named "error". The standard has no such field, so it
            dispatches nothing, but some servers report their errors in it.
    """

    __slots__ = (
        "_data",
        "_event",
        "_id",
        "_line",
        "_retry",
        "_skip_line_feed",
        "_started",
        "stray_error",
    )

    def __init__(self) -> None:
        # The start of a line whose end has not arrived. A bytearray grows in linear time.
        self._line = bytearray()
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._skip_line_feed = False
        self._started = False
        self.stray_error: bytes | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that `chunk` completes, in order."""
        if not self._started:
            chunk = self._without_mark(chunk)
        if self._skip_line_feed and chunk:
            # The CR before it already ended the line; CR LF is one line end.
            chunk = chunk.removeprefix(b"\n")
            self._skip_line_feed = False
        if b"\r" in chunk:
            self._skip_line_feed = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._line += chunk
            return []
        if self._line:
            chunk = bytes(self._line) + chunk
            self._line.clear()
        if not self._data and not self._event:
            return self._take_blocks(chunk)
        events: list[ServerSentEvent] = []
        self._take_lines(chunk, events)
        return events

    def finish(self) -> list[ServerSentEvent]:
        """Return the event that the end of the body cut short, if there is one.

        Neither its last line nor the event itself had an end: the data may be incomplete.
        """
        events: list[ServerSentEvent] = []
        line = bytes(self._line)
        self._line.clear()
        if line:
            self._take_line(line, events)
        self._dispatch(events)
        return events

    def _without_mark(self, chunk: bytes) -> bytes:
        """Return the first bytes without a byte order mark; nothing while it may be half there."""
        start = bytes(self._line) + chunk
        self._line.clear()
        if len(start) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(start):
            self._line += start
            return b""
        self._started = True
        return start.removeprefix(_BYTE_ORDER_MARK)

    def _take_blocks(self, text: bytes) -> list[ServerSentEvent]:
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
        self._take_lines(rest, events)
        return events

    def _take_lines(self, text: bytes, events: list[ServerSentEvent]) -> None:
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._take_line(line, events)
        self._line += rest

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
        elif name == b"error":
            self.stray_error = value

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            data = b"\n".join(self._data)
            events.append(ServerSentEvent(data, self._event or "message", self._id, self._retry))
            self._data = []
        self._event = ""
