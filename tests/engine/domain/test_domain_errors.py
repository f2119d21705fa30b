"""Domain errors: each kind has its HTTP status, and they survive the way between processes."""

from __future__ import annotations

import pickle

import pytest

from tunesmith.engine.api.http_errors import as_api_error
from tunesmith.engine.domain.errors import (
    ErrorKind,
    JobStateError,
    QueueFullError,
    RequestError,
    UnknownHostError,
)
from tunesmith.engine.domain.job import JOBS_API, LEGACY_API, internal_id, public_id
from tunesmith.engine.models.model_errors import ModelNotInstalledError, UnknownModelError


@pytest.mark.parametrize("kind", ErrorKind)
def test_each_kind_has_a_status(kind: ErrorKind):
    answer = as_api_error(RequestError("It failed.", kind=kind, param="p", code="c"))

    assert 400 <= answer.status < 600
    assert answer.status != 409, "older clients retry it for ever"
    assert (answer.message, answer.param, answer.code) == ("It failed.", "p", "c")
    assert answer.headers == {}


@pytest.mark.parametrize(
    ("error", "status", "param", "code"),
    [
        (JobStateError("x"), 400, "id", "job_state"),
        (QueueFullError("x"), 429, None, "queue_full"),
        (UnknownHostError("x"), 421, None, "unknown_host"),
        (UnknownModelError("x"), 404, "model", "model_not_found"),
        (ModelNotInstalledError("x"), 400, "model", "model_not_installed"),
    ],
)
def test_the_errors_with_a_class_of_their_own(
    error: RequestError, status: int, param: str | None, code: str
):
    answer = as_api_error(pickle.loads(pickle.dumps(error)))  # noqa: S301 - our own pickle

    assert (answer.status, answer.param, answer.code) == (status, param, code)
    assert answer.headers == ({"retry-after": "30"} if code == "queue_full" else {})


def test_ids_of_a_job_in_both_apis():
    assert public_id("abc", LEGACY_API) == "ft-abc"
    assert public_id("abc", JOBS_API) == public_id("abc") == "ftjob-abc"
    for identity in ("abc", "ft-abc", "ftjob-abc"):
        assert internal_id(identity) == "abc"
