"""Blocking and asynchronous clients on each transport, and on the user's own httpx clients: the
same bytes on the wire, the same answers to hostile responses, the same pieces and lines."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import io
import re
import ssl
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tunesmith
from http_stub import HANG_UP, RESET, Received, Stub, answer, raw
from tunesmith import AsyncClient, Client, RetryPolicy

ONCE = RetryPolicy(0)
FAST = importlib.util.find_spec("pyreqwest") is not None
HTTPX2 = importlib.util.find_spec("httpx2") is not None
TLS = ssl.create_default_context()  # once: it takes 20 ms, and each test makes dozens of clients


def clients(url: str) -> dict[str, Callable[[], Any]]:
    """Return what makes each kind of client, by name."""
    common: dict[str, Any] = {"base_url": url, "retry": ONCE, "timeout": 5}
    kinds: dict[str, Callable[[], Any]] = {
        "sync": lambda: Client("k", **common),
        "async": lambda: AsyncClient("k", **common),
        "user": lambda: Client("k", **common, http_client=httpx.Client(verify=TLS)),
        "async user": lambda: AsyncClient("k", **common, http_client=httpx.AsyncClient(verify=TLS)),
    }
    if FAST:
        kinds["fast"] = lambda: Client("k", **common, transport="fast")
        kinds["async fast"] = lambda: AsyncClient("k", **common, transport="fast")
    if HTTPX2:
        import httpx2

        kinds["user 2"] = lambda: Client("k", **common, http_client=httpx2.Client(verify=TLS))
        kinds["async user 2"] = lambda: AsyncClient(
            "k", **common, http_client=httpx2.AsyncClient(verify=TLS)
        )
    return kinds


def outcome_of(error: BaseException) -> tuple[str, str]:
    """Return an error without what names its transport: the text of a broken connection."""
    text = "" if type(error) is tunesmith.APIConnectionError else str(error)
    return type(error).__name__, re.sub(r"127\.0\.0\.1:\d+", "HOST", text)


def on_each(stub: Stub, call: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the outcome of a call by kind of client: a value or an error."""
    found: dict[str, Any] = {}
    for name, make in clients(stub.url).items():
        if "async" not in name:
            try:
                with make() as client:
                    found[name] = call(client)
            except Exception as error:  # noqa: BLE001 - compared
                found[name] = outcome_of(error)
            continue

        async def main(make: Callable[[], Any] = make) -> Any:
            async with make() as client:
                return await call(client)

        try:
            found[name] = asyncio.run(main())
        except Exception as error:  # noqa: BLE001 - compared
            found[name] = outcome_of(error)
    return found


def agreed(found: dict[str, Any]) -> Any:
    """Return the outcome that all kinds share."""
    first = found["sync"]
    assert {name: one for name, one in found.items() if one != first} == {}
    return first


# What is sent


def wire(request: Received) -> tuple[Any, ...]:
    """Return a request without what differs in each: boundary, key and host."""
    headers = {
        name: re.sub(r"tunesmith-[0-9a-f-]{32,36}", "RANDOM", value)
        for name, value in request.headers.items()
        if name not in {"host", "connection"}
    }
    return (
        request.method,
        request.path,
        headers,
        re.sub(rb"tunesmith-[0-9a-f]{32}", b"R", request.body),
    )


class Once(io.BytesIO):
    """A handle that cannot seek."""

    def seekable(self) -> bool:
        return False


CALLS: dict[str, Callable[[Any], Any]] = {
    "retrieve": lambda c: c.files.retrieve("file-1"),
    "an id with signs": lambda c: c.models.retrieve("ft:a/b?c#d e%f|[g]'\"ä\\^`{}"),
    "a query": lambda c: c.get("/things", cast_to=dict, extra_query={"a b": "ä&=+'|[]\"<>", "n": None}),
    "metadata": lambda c: c.fine_tuning.jobs.list(metadata={"k[1]": "v w"}),
    "post without body": lambda c: c.fine_tuning.jobs.cancel("ftjob-1"),
    "delete": lambda c: c.files.delete("file-1"),
    "json": lambda c: c.completions.create(model="m", prompt=["ä\ud800\u2028", "\0"], echo=None),
    "empty json": lambda c: c.post("/things", cast_to=dict, body={}),
    "header fields": lambda c: c.models.retrieve(
        "m", extra_headers={"X-Own": "a, b", "accept": "*/*", "Accept-Encoding": "identity"}
    ),
    "path": lambda c: c.files.create(file=__file__, purpose="fine-tune"),
    "bytes": lambda c: c.files.create(file=b"", purpose="fine-tune"),
    "name": lambda c: c.files.create(file=('ä"\r\n\\/.jsonl', "ä\r\n"), purpose="a b"),
    "handle": lambda c: c.files.create(file=io.BytesIO(b"x" * 600_000), purpose="fine-tune"),
    "handle that cannot seek": lambda c: c.files.create(file=Once(b"x" * 600_000), purpose="p"),
    "part": lambda c: c.uploads.parts.create("upload_1", data=b"abc"),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_kind_sends_the_same_bytes(stub, call):
    stub.handle = lambda _: answer({})
    on_each(stub, call)
    sent = [wire(request) for request in stub.requests]
    assert len(sent) == len(clients(stub.url))
    agreed(dict(zip(clients(stub.url), sent, strict=True)))


@pytest.mark.parametrize("name", ["path", "handle", "bytes"])
def test_each_kind_sends_an_upload_with_its_length(stub, name):
    stub.handle = lambda _: answer({})
    on_each(stub, CALLS[name])
    for request in stub.requests:
        assert int(request.headers["content-length"]) == len(request.body)
        assert "transfer-encoding" not in request.headers


# What is received


def body(content: bytes, *fields: bytes, status: bytes = b"200 OK") -> Any:
    length = b"content-length: %d" % len(content)
    return raw(b"\r\n".join([b"HTTP/1.1 " + status, length, *fields, b"", content]))


def chunked(*chunks: bytes, end: Any = (b"0\r\n\r\n",)) -> Any:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return raw(head, *(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks), *end)


TEXT = '{"a":"x\u2028y\u0085z"}\n{"b":1}\r\nlast\rone'.encode()
RESPONSES: dict[str, Any] = {
    "plain": body(TEXT),
    "empty": body(b""),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "gzip": body(gzip.compress(TEXT), b"content-encoding: gzip"),
    "deflate": body(zlib.compress(TEXT), b"content-encoding: deflate"),
    "no gzip": body(b"plain", b"content-encoding: gzip"),
    "gzip of nothing": body(b"", b"content-encoding: gzip"),
    "chunked": chunked(TEXT[:10], TEXT[10:]),
    "chunked with trailers": chunked(TEXT, end=[b"0\r\nx: y\r\n\r\n"]),
    "chunked, cut off": chunked(TEXT, end=[b"5\r\nab", HANG_UP]),
    "bad chunk": chunked(TEXT, end=[b"zz\r\n", HANG_UP]),
    "until the end": raw(b"HTTP/1.0 200 OK\r\n\r\n" + TEXT, HANG_UP),
    "cut off": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nabc", HANG_UP),
    "reset": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nabc", 0.05, RESET),
    "closed before the answer": raw(HANG_UP),
    "no HTTP": raw(b"hello\r\n\r\n", HANG_UP),
    "bad status": raw(b"HTTP/1.1 abc\r\n\r\n", HANG_UP),
    "bad length": raw(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", HANG_UP),
    "100 Continue": raw(b"HTTP/1.1 100 Continue\r\n\r\n", *body(TEXT).raw),
    "repeated fields": body(TEXT, b"X-A: 1", b"x-a: 2"),
    "latin": body(TEXT, b"x-latin: \xe4"),
    "error": body(b'{"error": {"message": "no", "code": "c"}}', status=b"400 Bad"),
    "error that is no JSON": body(b"<html>", status=b"502 Bad"),
    "error without a body": body(b"", status=b"500 Bad"),
    "redirect without an address": body(b"", status=b"302 Found"),
    "not modified": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
}


# pyreqwest takes away what described the compressed body, and reads ASCII values alone.
KNOWN_DIFFERENCES = {"content-encoding", "content-length", "x-latin"}


def parts(content: Any) -> tuple[bytes, dict[str, str], list[str]]:
    fields = {
        name: value for name, value in content.headers.items() if name not in KNOWN_DIFFERENCES
    }
    return content.content, fields, list(content.iter_lines())


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_each_kind_gives_the_same_answer_to_a_hostile_response(stub, response):
    stub.handle = lambda _: response

    def whole(client: Any) -> Any:
        if isinstance(client, Client):
            return parts(client.files.content("file-1"))

        async def read() -> Any:
            return parts(await client.files.content("file-1"))

        return read()

    found = agreed(on_each(stub, whole))
    if isinstance(found[0], str):
        assert issubclass(getattr(tunesmith, found[0]), tunesmith.APIError)


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_a_compressed_body_that_is_cut_off_is_an_error(stub, kind):
    """The length is right, so that only the compression tells. httpx takes it for whole."""
    packed = (gzip.compress if kind == "gzip" else zlib.compress)(TEXT * 99)[:-20]
    stub.handle = lambda _: body(packed, b"content-encoding: " + kind.encode())
    for calls in (content_lines, streamed_lines):
        found = on_each(stub, calls)
        own = {name: one for name, one in found.items() if "user" not in name}
        assert set(own.values()) == {("APIConnectionError", "")}


def test_a_body_of_two_gzip_members_is_read_whole(stub):
    packed = gzip.compress(b"a\n") + gzip.compress(b"b\n") + b"\0\0"
    stub.handle = lambda _: body(packed, b"content-encoding: gzip")
    found = on_each(stub, content_lines)
    assert found["sync"] == found["async"] == ["a", "b"]


def test_deflate_without_a_header_is_read(stub):
    raw_deflate = zlib.compress(TEXT)[2:-4]
    stub.handle = lambda _: body(raw_deflate, b"content-encoding: deflate")
    found = on_each(stub, content_lines)
    assert found["sync"] == found["async"] == found["user"]


@pytest.mark.parametrize(
    "response",
    [RESPONSES[name] for name in ("plain", "gzip", "chunked", "until the end", "cut off", "empty")],
)
def test_each_kind_streams_the_same(stub, response):
    stub.handle = lambda _: response
    found = agreed(on_each(stub, streamed_lines))
    whole = agreed(on_each(stub, content_lines))
    assert (found == whole) or found[0] == whole[0]


def streamed_lines(client: Any) -> Any:
    view = client.files.with_streaming_response.content("file-1")
    if isinstance(client, Client):
        with view as response:
            return list(response.iter_lines())

    async def read() -> Any:
        async with view as response:
            return [line async for line in response.iter_lines()]

    return read()


def content_lines(client: Any) -> Any:
    if isinstance(client, Client):
        return list(client.files.content("file-1").iter_lines())

    async def read() -> Any:
        return list((await client.files.content("file-1")).iter_lines())

    return read()


ENDS = st.sampled_from(["\n", "\r", "\r\n", "\x0b", "\x1c", "\x85", "\u2028", "a", "ä", "{}"])


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(ENDS, min_size=1, max_size=5).map("".join), max_size=5), st.integers(1, 7))
@example(["{}\u2028", "a\x85\r", "\nb"], 3)
def test_whole_and_streamed_content_are_cut_alike(stub, texts, size):
    pieces = [text.encode() for text in texts]
    stub.handle = lambda _: chunked(*pieces)
    sync = Client("k", base_url=stub.url, retry=ONCE)
    whole = sync.files.content("file-1")

    def view() -> Any:
        return sync.files.with_streaming_response.content("file-1")

    with view() as response:
        assert list(response.iter_lines()) == list(whole.iter_lines())
    with view() as response:
        assert list(response.iter_bytes(size)) == list(whole.iter_bytes(size))
    with view() as response:
        assert list(response.iter_text(size)) == list(whole.iter_text(size))

    async def main() -> None:
        async with AsyncClient("k", base_url=stub.url, retry=ONCE) as client:
            views = client.files.with_streaming_response
            async with views.content("file-1") as response:
                assert [one async for one in response.iter_lines()] == list(whole.iter_lines())
            async with views.content("file-1") as response:
                found = [one async for one in response.iter_bytes(size)]
                assert found == list(whole.iter_bytes(size))
            async with views.content("file-1") as response:
                found = [one async for one in response.iter_text(size)]
                assert found == list(whole.iter_text(size))

    asyncio.run(main())
    sync.close()


def test_a_size_that_is_none_is_refused(stub):
    stub.handle = lambda _: body(TEXT)
    client = Client("k", base_url=stub.url)
    with pytest.raises(tunesmith.TunesmithError, match="chunk_size"):
        next(client.files.content("file-1").iter_bytes(-1))
    with (
        client.files.with_streaming_response.content("file-1") as response,
        pytest.raises(tunesmith.TunesmithError, match="chunk_size"),
    ):
        next(response.iter_bytes(0))
    client.close()


def test_an_empty_piece_does_not_end_a_body():
    """A transport of the user's own may yield one in mid-body."""

    class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Any:
            yield from (b"a", b"", b"b")

        async def __aiter__(self) -> Any:
            for piece in (b"a", b"", b"b"):
                yield piece

    made = httpx.MockTransport(lambda _: httpx.Response(200, stream=Pieces()))
    client = Client("k", base_url="http://h", http_client=httpx.Client(transport=made))
    with client.files.with_streaming_response.content("file-1") as response:
        assert response.read() == b"ab"

    async def main() -> bytes:
        user = httpx.AsyncClient(transport=made)
        client = AsyncClient("k", base_url="http://h", http_client=user)
        async with client.files.with_streaming_response.content("file-1") as response:
            return await response.read()

    assert asyncio.run(main()) == b"ab"
