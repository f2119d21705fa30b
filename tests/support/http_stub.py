"""A small server over real sockets that answers exactly as a test scripts it, faults included."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

RESET = object()
HANG_UP = object()


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What to send: a well-formed answer, or `raw` steps.

    A step is bytes to send, a number of seconds to pause, RESET, HANG_UP or an Event to wait for.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    raw: Sequence[Any] | None = None

    def steps(self) -> Sequence[Any]:
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} Status"]
        headers = {"content-length": str(len(self.body)), "content-type": "application/json"}
        lines += [f"{name}: {value}" for name, value in {**headers, **self.headers}.items()]
        return ["\r\n".join(lines).encode() + b"\r\n\r\n" + self.body]


def answer(content: Any = None, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status,
        json.dumps({} if content is None else content).encode(),
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def raw(*steps: Any) -> Answer:
    return Answer(raw=steps)


def sse(*events: Any, done: bool = True, tail: Sequence[Any] = ()) -> Answer:
    """A stream of events in one chunked body; `tail` steps follow in place of the body's end."""
    texts = [
        event if isinstance(event, bytes) else b"data: %b\n\n" % dumped(event) for event in events
    ]
    if done:
        texts.append(b"data: [DONE]\n\n")
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%b\r\n" % (len(text), text) for text in texts]
    return raw(head, *chunks, *(tail or [b"0\r\n\r\n"]))


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


class Stub:
    """Serves on loopback. Tests set `handle`, or queue answers with `then`."""

    def __init__(self) -> None:
        self.handle: Callable[[Received], Answer] = self._next
        self.requests: list[Received] = []
        self.queue: list[Answer] = []
        self.default = answer(
            {"error": {"message": "nothing queued", "type": "x", "param": None, "code": None}}, 501
        )
        self.connections = 0
        self.open_connections = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *answers: Answer) -> None:
        self.queue.extend(answers)

    def close(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _next(self, request: Received) -> Answer:
        del request
        with self._lock:
            return self.queue.pop(0) if self.queue else self.default

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open_connections += 1
                number = self.connections
                self._sockets.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with connection, connection.makefile("rb") as stream:
                while not self._stopping:
                    request = read_request(stream, number)
                    if request is None:
                        return
                    with self._lock:
                        self.requests.append(request)
                    if not perform(connection, self.handle(request).steps()):
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self.open_connections -= 1
                self._sockets.discard(connection)


def perform(connection: socket.socket, steps: Sequence[Any]) -> bool:
    """Carry out the steps; return whether the connection can serve another request."""
    for step in steps:
        if step is RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if step is HANG_UP:
            return False
        if isinstance(step, threading.Event):
            step.wait(10)
        elif isinstance(step, int | float):
            time.sleep(step)
        else:
            connection.sendall(step)
    return True


def read_request(stream: Any, number: int) -> Received | None:
    line = stream.readline().decode("latin-1").split()
    if len(line) < 3:
        return None
    headers: dict[str, str] = {}
    while (field_line := stream.readline().strip()) != b"":
        name, _, value = field_line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while (size := int(stream.readline().strip() or b"0", 16)) > 0:
            body += stream.read(size)
            stream.readline()
        is_whole = stream.readline() != b""
    else:
        length = int(headers.get("content-length", 0))
        body = stream.read(length)
        is_whole = len(body) == length
    if not is_whole:  # the client has died, or given up
        return None
    return Received(line[0], line[1], headers, body, number)
