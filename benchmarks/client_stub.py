"""A loopback server with canned answers, in a process of its own; prints its port and serves."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

JOB: dict[str, Any] = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "created_at": 1721764800,
    "error": None,
    "fine_tuned_model": "ft:gpt-4o-mini:org::7p4lURel",
    "finished_at": 1721765800,
    "hyperparameters": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8},
    "model": "gpt-4o-mini",
    "organization_id": "org-123",
    "result_files": ["file-abc123"],
    "seed": 42,
    "status": "running",
    "trained_tokens": 5768,
    "training_file": "file-abc123",
    "validation_file": None,
    "integrations": [],
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1721764800,
    "model": "gpt-4o-mini",
    "system_fingerprint": "fp_1",
    "choices": [
        {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    ],
}
CHUNKS = 2000
PAGE = 100
DOWNLOAD_PIECE = b"0123456789abcdef" * 4096


def _dumped(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _answer(body: bytes, kind: bytes = b"application/json") -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n%b"
        % (
            kind,
            len(body),
            body,
        )
    )


ONE = _answer(_dumped(JOB))
LIST = _answer(
    _dumped(
        {
            "object": "list",
            "data": [{**JOB, "id": f"ftjob-{n}"} for n in range(PAGE)],
            "has_more": False,
        }
    )
)
MANY = _answer(
    _dumped(
        {
            "object": "list",
            "data": [{**JOB, "id": f"ftjob-{n}"} for n in range(1000)],
            "has_more": False,
        }
    )
)
FILE = _answer(
    _dumped(
        {
            "id": "file-1",
            "object": "file",
            "bytes": 1,
            "created_at": 1,
            "filename": "a",
            "purpose": "fine-tune",
            "status": "processed",
        }
    )
)
EVENTS = b"".join([b"data: %b\n\n" % _dumped(CHUNK)] * CHUNKS) + b"data: [DONE]\n\n"
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS)
)


class Connection(asyncio.Protocol):
    """Answers each request by its path, whatever else it says."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.head = b""
        self.left = 0
        self.due = b""

    def data_received(self, data: bytes) -> None:
        while data:
            if self.left:
                taken = min(self.left, len(data))
                self.left -= taken
                data = data[taken:]
                if not self.left:
                    self._reply()
                continue
            self.head += data
            head, mark, data = self.head.partition(b"\r\n\r\n")
            if not mark:
                return
            self.head = b""
            self.due = head.split(b" ", 2)[1]
            lower = head.lower()
            place = lower.find(b"content-length:")
            if place >= 0:
                self.left = int(
                    lower[place + 15 : lower.find(b"\r", place) if b"\r" in lower[place:] else None]
                )
            if not self.left:
                self._reply()

    def _reply(self) -> None:
        path = self.due
        if path.startswith(b"/v1/fine_tuning/jobs/"):
            self.transport.write(ONE)
        elif path.startswith(b"/v1/fine_tuning/jobs"):
            self.transport.write(MANY if b"limit=100" in path else LIST)
        elif path.startswith(b"/v1/chat"):
            self.transport.write(STREAM)
        elif path.endswith(b"/content"):
            size = int(path.split(b"/")[3].split(b"-")[1])
            asyncio.get_running_loop().create_task(self._download(size))
        else:
            self.transport.write(FILE)

    async def _download(self, size: int) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n"
            % size
        )
        sent = 0
        while sent < size:
            while self.transport.get_write_buffer_size() > 1 << 20:
                await asyncio.sleep(0.001)
            self.transport.write(DOWNLOAD_PIECE)
            sent += len(DOWNLOAD_PIECE)


async def main() -> None:
    """Serve until the standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
