"""Large bodies, which are read past the HTTP parser: complete, or an error, on every transport."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

import tunesmith
from http_stub import HANG_UP, RESET, answer, raw
from tunesmith import RetryPolicy, Timeout

SIZE = 3_500_001
CONTENT = random.Random(1).randbytes(SIZE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE


def download(mode: Any, client: Any, path: Any) -> None:
    view = client.files.with_streaming_response.content("file-1")
    if mode.runner is None:
        with view as response:
            response.stream_to_file(path)
        return

    async def main() -> None:
        async with view as response:
            await response.stream_to_file(path)

    mode.run(main())


@pytest.mark.every_transport
@pytest.mark.parametrize(
    "steps",
    [
        [HEAD + CONTENT],
        [HEAD, CONTENT[:10], 0.05, CONTENT[10:2_000_000], 0.05, CONTENT[2_000_000:]],
        [HEAD, CONTENT[:SIZE - 1], 0.05, CONTENT[-1:]],
    ],
    ids=["at once", "in pieces", "last byte later"],
)  # fmt: skip
def test_a_large_file_arrives_exactly(mode, stub, tmp_path, file_object, steps):
    stub.then(raw(*steps), answer(file_object), raw(*steps))
    client = mode.client(stub.url)
    download(mode, client, tmp_path / "got")
    digest = hashlib.sha256((tmp_path / "got").read_bytes()).digest()
    assert digest == hashlib.sha256(CONTENT).digest()
    assert mode.run(client.files.retrieve("file-1")).id == "file-1"
    assert mode.run(client.files.content("file-1")).content == CONTENT


@pytest.mark.every_transport
@pytest.mark.parametrize("end", [HANG_UP, RESET], ids=["closed", "reset"])
def test_a_large_file_that_is_cut_off_is_an_error(mode, stub, tmp_path, file_object, end):
    stub.then(raw(HEAD, CONTENT[:3_000_000], 0.05, end), answer(file_object))
    client = mode.client(stub.url, retry=RetryPolicy(0))
    with pytest.raises(tunesmith.APIConnectionError):
        download(mode, client, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []
    assert mode.run(client.files.retrieve("file-1")).id == "file-1"


@pytest.mark.every_transport
def test_a_large_file_that_stalls_times_out(mode, stub, tmp_path):
    stub.then(raw(HEAD, CONTENT[:2_000_000], 1.0, HANG_UP))
    client = mode.client(stub.url, retry=RetryPolicy(0), timeout=Timeout(5, read=0.2))
    with pytest.raises(tunesmith.ReadTimeoutError):
        download(mode, client, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_a_deadline_ends_a_large_file(mode, stub, tmp_path):
    stub.then(raw(HEAD, CONTENT[:2_000_000], 1.0, HANG_UP))
    client = mode.client(stub.url, retry=RetryPolicy(0), timeout=Timeout(5, total=0.3))
    with pytest.raises(tunesmith.DeadlineExceededError):
        download(mode, client, tmp_path / "got")


def test_abandoning_a_large_file_closes_its_connection(mode, stub, file_object):
    stub.then(raw(HEAD, CONTENT), answer(file_object))
    client = mode.client(stub.url)
    view = client.files.with_streaming_response.content("file-1")
    if mode.runner is None:
        with view as response:
            next(response.iter_bytes(2_000_000))
    else:

        async def main() -> None:
            async with view as response:
                await anext(response.iter_bytes(2_000_000))

        mode.run(main())
    assert mode.run(client.files.retrieve("file-1")).id == "file-1"
    assert stub.connections == 2
