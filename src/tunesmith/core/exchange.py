"""The way of one call: credential, sending, redirects, retries, and the error of a bad status.

`exchange` is the flow beneath every operation. The path of a call that succeeds at
once is kept short; everything else lies behind the first failure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    DeadlineExceededError,
    TooManyRedirectsError,
    status_error_class,
)

from .environment import NO_KEY
from .flow import Call, Flow, Send, Sleep
from .redact import Secret
from .redirects import MAX_REDIRECTS, is_redirect, redirected
from .request import Request, RequestSpec, build_request, deadline_exceeded
from .response import Response
from .retry import Outcome, next_delay, retrying

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["exchange", "status_error"]

# The levels of the standard logger, which is loaded with the first request.
_DEBUG, _INFO = 10, 20
_UNAUTHENTICATED = 401
_NO_KEY_GIVEN = (
    "The server wants an API key, and none was given: give api_key, or set TUNESMITH_API_KEY or "
    "OPENAI_API_KEY. It says: "
)


def exchange(settings: Settings, spec: RequestSpec) -> Flow[Response]:
    """Carry out `spec` and return the successful answer.

    Raises:
        APIConnectionError: No whole answer arrived, after the retries.
        APIStatusError: The server answered with an error status, after the retries.
        DeadlineExceededError: The call's total time passed.
    """
    credential = settings.credential_for(spec.path)
    if credential is not None and not isinstance(credential, Secret):
        credential = _checked((yield Call(credential)))
    request = build_request(settings, spec, credential)
    outcome = yield from _send(settings, request, 1)
    if isinstance(outcome, Response) and outcome.is_success:
        return outcome
    return (yield from _after_failure(settings, request, outcome))


def _checked(key: object) -> Secret:
    """Return the key that the user's function gave, out of sight at once."""
    if not isinstance(key, str) or not key:
        raise ConfigurationError("The function given as api_key returned no key.")
    return Secret(key)


def _after_failure(settings: Settings, request: Request, outcome: Outcome) -> Flow[Response]:
    """Retry as the policy has it, then return the success or raise the last failure."""
    from .logs import log_retry

    machine, state = retrying(settings.retry)
    attempt = 1
    while True:
        delay = next_delay(machine, state, outcome) if _can_resend(request) else None
        if delay is None:
            break
        _check_pause(request, delay, outcome)
        if settings.hooks is not None:
            yield from settings.hooks.call_retry(request, outcome, attempt, delay)
        log_retry(request, delay)
        yield Sleep(delay)
        attempt += 1
        outcome = yield from _send(settings, request, attempt)
        if isinstance(outcome, Response) and outcome.is_success:
            break
    if isinstance(outcome, APIConnectionError):
        raise outcome
    outcome.attempts = attempt
    if not outcome.is_success:
        keyless = outcome.status == _UNAUTHENTICATED and settings.credential is NO_KEY
        raise status_error(outcome, _NO_KEY_GIVEN if keyless else "")
    return outcome


def _send(settings: Settings, request: Request, attempt: int) -> Flow[Outcome]:
    """Send once, redirects followed; a connection error is returned, not raised."""
    from .logs import log_outcome, log_request, logger

    if logger.isEnabledFor(_DEBUG):
        log_request(request, attempt)
    if settings.hooks is not None:
        yield from settings.hooks.call_before(request, attempt)
    outcome: Outcome
    try:
        _check_deadline(request)
        response: Response = yield Send(request)
        if not response.is_success and is_redirect(response):
            response = yield from _follow(request, response)
        outcome = response
    except DeadlineExceededError:
        raise
    except APIConnectionError as error:
        outcome = error
    if logger.isEnabledFor(_INFO):
        log_outcome(request, outcome)
    if settings.hooks is not None:
        yield from settings.hooks.call_after(request, outcome, attempt)
    return outcome


def _follow(request: Request, response: Response) -> Flow[Response]:
    for _ in range(MAX_REDIRECTS):
        request = redirected(request, response)
        _check_deadline(request)
        response = yield Send(request)
        if not is_redirect(response):
            return response
    raise TooManyRedirectsError(
        f"The server redirected {MAX_REDIRECTS} times and more, at last to {request.url}.",
        request=request.info,
        retryable=False,
    )


def _check_deadline(request: Request) -> None:
    if request.deadline is not None and time.monotonic() >= request.deadline:
        raise deadline_exceeded(request)


def _check_pause(request: Request, delay: float, outcome: Outcome) -> None:
    if request.deadline is None or time.monotonic() + delay < request.deadline:
        return
    cause = outcome if isinstance(outcome, APIConnectionError) else status_error(outcome)
    raise deadline_exceeded(request) from cause


def _can_resend(request: Request) -> bool:
    body = request.body
    return body is None or isinstance(body, bytes) or body.replayable


def status_error(response: Response, remark: str = "") -> APIStatusError:
    """Return the error that stands for an answer with an error status, after a remark of ours."""
    body = _error_body(response)
    message = body.get("message") if isinstance(body, Mapping) else None
    text = message if isinstance(message, str) and message else _excerpt(response)
    known = [f"status {response.status}"]
    if response.request_id:
        known.append(f"request id {response.request_id}")
    error_class = status_error_class(response.status)
    return error_class(f"{remark}{text} ({', '.join(known)})", response=response.info(), body=body)


def _error_body(response: Response) -> Any:
    """Return the error object: inside `error` by the contract, bare on some servers."""
    try:
        content = json.loads(response.body or b"")
    except (ValueError, RecursionError):
        return response.text[:4096] or None
    if isinstance(content, Mapping):
        return content.get("error", content)
    return content


def _excerpt(response: Response) -> str:
    text = " ".join(response.text[:200].split())
    where = f"{response.request.method} {response.request.url}"
    return f"{where} was refused: {text}" if text else f"{where} was refused"
