"""A hostile server: each fault ends in the right typed error or in success, and nothing leaks."""

from __future__ import annotations

import gc
import os
import random
import time
import traceback
from pathlib import Path

import pytest

import tunesmith
from http_stub import HANG_UP, RESET, answer, raw, sse
from tunesmith import RetryPolicy, Timeout

pytestmark = pytest.mark.both_transports
NO_RETRY = RetryPolicy(max_retries=0)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 300\r\n\r\n"


@pytest.mark.every_transport
def test_a_refused_connection_says_what_to_do(mode):
    client = mode.client("http://127.0.0.1:9/v1", retry=NO_RETRY)
    with pytest.raises(tunesmith.APIConnectionError, match="tunesmith serve"):
        mode.run(client.models.retrieve("m"))


@pytest.mark.every_transport
@pytest.mark.parametrize(
    "steps",
    [
        [HANG_UP],
        [RESET],
        [b"HTTP/1.1 200 OK\r\ncontent-le"],
        [HEAD, b'{"id":', HANG_UP],
        [HEAD, b'{"id":', RESET],
        [b"\x00\x01garbage that is not HTTP\r\n\r\n"],
        [b"HTTP/9.9 what\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"],
    ],
    ids=[
        "hang-up",
        "reset",
        "half-head",
        "half-body",
        "reset-body",
        "garbage",
        "version",
        "length",
        "chunk",
        "gzip",
    ],
)
def test_a_broken_response_is_a_connection_error(mode, stub, steps):
    stub.handle = lambda _: raw(*steps, HANG_UP)
    client = mode.client(stub.url, retry=NO_RETRY)
    with pytest.raises(tunesmith.APIConnectionError):
        mode.run(client.fine_tuning.jobs.retrieve("ftjob-1"))
    stub.handle = lambda _: answer({"id": "m", "created": 1, "owned_by": "me"})
    # A connection may be reused before the client notices that the server has closed it.
    retrying = client.with_options(retry=RetryPolicy(1, initial_delay=0.01))
    assert mode.run(retrying.models.retrieve("m")).id == "m"


def test_a_broken_response_is_retried_with_the_same_key(mode, stub, job):
    stub.then(raw(HANG_UP), raw(HEAD, b"{", RESET), answer(job))
    client = mode.client(stub.url)
    made = mode.run(client.fine_tuning.jobs.create(model="m", training_file="file-1"))
    assert made.id == "ftjob-1"
    keys = {request.headers["idempotency-key"] for request in stub.requests}
    assert len(stub.requests) == 3
    assert len(keys) == 1


def test_two_calls_have_two_keys(mode, stub, job):
    stub.then(answer(job), answer(job))
    client = mode.client(stub.url)
    for _ in range(2):
        mode.run(client.fine_tuning.jobs.create(model="m", training_file="file-1"))
    assert len({request.headers["idempotency-key"] for request in stub.requests}) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, tunesmith.BadRequestError),
        (401, tunesmith.AuthenticationError),
        (403, tunesmith.PermissionDeniedError),
        (404, tunesmith.NotFoundError),
        (409, tunesmith.ConflictError),
        (418, tunesmith.APIStatusError),
        (422, tunesmith.UnprocessableEntityError),
        (429, tunesmith.RateLimitError),
        (500, tunesmith.InternalServerError),
        (503, tunesmith.InternalServerError),
    ],
)
def test_each_status_has_its_error(mode, stub, status, error):
    body = {"error": {"message": "No.", "type": "kind", "param": "model", "code": "reason"}}
    stub.handle = lambda _: answer(body, status, x_request_id="req_7")
    client = mode.client(stub.url)
    with pytest.raises(error) as caught:
        mode.run(client.models.retrieve("m"))
    found = caught.value
    assert (found.status_code, found.request_id) == (status, "req_7")
    assert (found.type, found.param, found.code) == ("kind", "model", "reason")
    assert "No." in str(found)
    retried = status == 429 or status >= 500
    assert len(stub.requests) == (3 if retried else 1)


@pytest.mark.parametrize(
    ("headers", "sendings"),
    [
        ({"retry_after": "0.01"}, 3),
        ({"retry_after_ms": "10"}, 3),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 3),
        ({"retry_after": "soon"}, 3),
        ({"retry_after": "100000"}, 1),
        ({"x_should_retry": "false"}, 1),
    ],
)
def test_retries_after_429_follow_the_server(mode, stub, headers, sendings):
    stub.handle = lambda _: answer({}, 429, **headers)
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.RateLimitError):
        mode.run(client.models.retrieve("m"))
    assert len(stub.requests) == sendings


def test_a_conflict_is_retried_only_when_the_server_says_so(mode, stub, job):
    stub.then(answer({}, 409, x_should_retry="true"), answer(job))
    client = mode.client(stub.url)
    assert mode.run(client.fine_tuning.jobs.cancel("ftjob-1")).id == "ftjob-1"


def test_html_with_status_200_is_quoted(mode, stub):
    page = b"<html><body>Sign in to the hotel network</body></html>"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nx-request-id: req_9\r\ncontent-length: %d\r\n\r\n"
    stub.handle = lambda _: raw(head % len(page) + page)
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.APIResponseValidationError, match="hotel network") as caught:
        mode.run(client.fine_tuning.jobs.retrieve("ftjob-1"))
    assert caught.value.request_id == "req_9"


def test_a_missing_field_is_named(mode, stub, job):
    del job["status"]
    stub.then(answer(job))
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.APIResponseValidationError, match="status: Field required"):
        mode.run(client.fine_tuning.jobs.retrieve("ftjob-1"))


def test_unknown_values_and_fields_pass(mode, stub, job):
    stub.then(answer({**job, "status": "contemplating", "mood": "calm"}))
    client = mode.client(stub.url)
    found = mode.run(client.fine_tuning.jobs.retrieve("ftjob-1"))
    assert (found.status, found.mood, found.is_terminal) == ("contemplating", "calm", False)


@pytest.mark.every_transport
def test_a_server_that_sends_nothing_is_a_read_timeout(mode, stub):
    stub.handle = lambda _: raw(2)
    client = mode.client(stub.url, timeout=Timeout(5, read=0.1), retry=NO_RETRY)
    with pytest.raises(tunesmith.ReadTimeoutError, match="sent nothing for 0.1 s"):
        mode.run(client.models.retrieve("m"))


@pytest.mark.every_transport
@pytest.mark.parametrize("part", ["head", "body"])
def test_a_response_sent_byte_by_byte_ends_at_the_deadline(mode, stub, part):
    text = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + b" " * 500
    drip = [step for byte in text for step in (bytes([byte]), 0.02)]
    if part == "body":
        drip = [text[:41], *drip[82:]]
    stub.handle = lambda _: raw(*drip)
    client = mode.client(stub.url, timeout=Timeout(10, total=0.4))
    started = time.monotonic()
    with pytest.raises(tunesmith.DeadlineExceededError):
        mode.run(client.models.retrieve("m"))
    assert time.monotonic() - started < 4


def test_retries_stop_at_the_deadline(mode, stub):
    stub.handle = lambda _: answer({}, 503, retry_after="5")
    client = mode.client(stub.url, timeout=Timeout(10, total=0.5))
    with pytest.raises(tunesmith.DeadlineExceededError) as caught:
        mode.run(client.models.retrieve("m"))
    assert isinstance(caught.value.__cause__, tunesmith.InternalServerError)
    assert len(stub.requests) == 1


@pytest.mark.every_transport
def test_a_full_pool_says_so(mode, stub, completion):
    stub.handle = lambda _: sse(completion, done=False, tail=[0.5])
    client = mode.client(stub.url, max_connections=1, timeout=Timeout(5, pool=0.1), retry=NO_RETRY)
    stream = mode.run(client.completions.create(model="m", prompt="p", stream=True))
    with pytest.raises(tunesmith.PoolTimeoutError, match="limit 1"):
        mode.run(client.models.retrieve("m"))
    mode.run(stream.close())
    stub.handle = lambda _: answer({"id": "m", "created": 1, "owned_by": "me"})
    assert mode.run(client.models.retrieve("m")).id == "m"


@pytest.mark.every_transport
def test_an_error_status_on_a_stream_frees_its_connection(mode, stub):
    stub.handle = lambda _: answer({"error": {"message": "No."}}, 400)
    client = mode.client(stub.url, max_connections=1, timeout=Timeout(5, pool=0.2))
    for _ in range(5):
        with pytest.raises(tunesmith.BadRequestError):
            mode.run(client.completions.create(model="m", prompt="p", stream=True))


def test_a_redirect_is_followed(mode, stub):
    stub.then(
        answer({}, 307, location="/v1/models/other"),
        answer({"id": "other", "created": 1, "owned_by": "me"}),
    )
    client = mode.client(stub.url)
    assert mode.run(client.models.retrieve("m")).id == "other"
    assert "authorization" in stub.requests[1].headers


@pytest.mark.every_transport
def test_a_redirect_to_another_server_drops_the_credential(mode, stub):
    stranger = type(stub)()
    stranger.then(answer({"id": "m", "created": 1, "owned_by": "me"}))
    stub.then(answer({}, 302, location=f"{stranger.url}/models/m"))
    client = mode.client(stub.url, default_headers={"Cookie": "a=b", "api-key": "secret"})
    mode.run(client.models.retrieve("m"))
    seen = stranger.requests[0].headers
    stranger.close()
    assert not {"authorization", "cookie", "api-key"} & set(seen)


def test_a_redirect_loop_ends(mode, stub):
    stub.handle = lambda request: answer({}, 302, location=request.path)
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.TooManyRedirectsError):
        mode.run(client.models.retrieve("m"))
    assert len(stub.requests) == 21


@pytest.mark.every_transport
def test_a_certificate_fault_is_not_retried(mode, tls_stub):
    client = mode.client(tls_stub.url)
    with pytest.raises(tunesmith.APIConnectionError, match="(?i)certificate") as caught:
        mode.run(client.models.retrieve("m"))
    assert caught.value.retryable is False


@pytest.mark.every_transport
def test_every_truncation_of_a_stream_is_an_error(mode, stub, completion):
    text = sse(completion, completion).steps()
    whole = b"".join(text)
    client = mode.client(stub.url, retry=NO_RETRY)
    step = 1 if os.environ.get("TUNESMITH_EXHAUSTIVE") else 13
    # The last bytes frame the body's end; the end mark has arrived before them.
    end = whole.index(b"[DONE]\n\n") + len(b"[DONE]\n\n")
    for cut in [*range(1, end, step), end - 1]:
        stub.handle = lambda _, cut=cut: raw(whole[:cut], HANG_UP)
        with pytest.raises((tunesmith.APIConnectionError, tunesmith.StreamTruncatedError)):
            mode.items(client.completions.create(model="m", prompt="p", stream=True))


def open_files() -> int:
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


def shows_key(error: BaseException) -> bool:
    summary = traceback.TracebackException.from_exception(error, capture_locals=True)
    return any("sk-sentinel" in line for line in summary.format())


@pytest.mark.every_transport
def test_random_faults_end_well(mode, stub, job):
    """Whatever fails, the job is created at most once and the call raises a typed error."""
    dice = random.Random(20261121)
    rounds = int(os.environ.get("TUNESMITH_FAULTS", "150"))
    made: set[str] = set()
    whole = answer(job).steps()[0]

    def handle(request):
        fate = dice.randrange(8)
        if fate == 0:
            return raw(RESET)
        if fate == 1:
            return raw(HANG_UP)
        if fate == 2:
            return answer({"error": {"message": "busy"}}, dice.choice([408, 429, 500, 503]))
        made.add(request.headers["idempotency-key"])
        if fate in {3, 4}:
            return raw(whole[: dice.randrange(len(whole))], dice.choice([RESET, HANG_UP]))
        if fate == 5:
            return raw(bytes(dice.randrange(256) for _ in range(40)), HANG_UP)
        return answer(job)

    stub.handle = handle
    client = mode.client(stub.url, retry=RetryPolicy(2, initial_delay=0.0001, max_delay=0.0002))
    before = open_files()
    for _ in range(rounds):
        try:
            done = mode.run(client.fine_tuning.jobs.create(model="m", training_file="file-1"))
            assert done.id == "ftjob-1"
        except tunesmith.APIError as error:
            assert not shows_key(error)  # noqa: PT017 - either end is right
    assert len(made) <= rounds
    gc.collect()
    if before:
        assert open_files() <= before + 6
