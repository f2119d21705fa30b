"""The flow beneath every operation: build the request, send it, follow redirects, retry.

The path of a call that succeeds at once is kept short; everything else happens after the
first failure. What the response's body means is not known here (see `decode`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tunesmith.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    DeadlineExceededError,
    TooManyRedirectsError,
    status_error_class,
)

from .environment import NO_KEY, checked_key
from .flow import Call, Flow, Send, Sleep
from .headers import HeaderFields, update_fields
from .logs import log_outcome, log_request, log_retry, logger
from .options import Timeout, is_omitted, omit
from .redact import MASK, Secret, secret_values
from .redirects import MAX_REDIRECTS, is_redirect, redirected
from .request import Request, RequestSpec, deadline_exceeded, json_body, query_string
from .response import Response
from .retry import Outcome, next_delay, retrying
from .urls import shown_url, with_query, without_userinfo

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["exchange", "status_error"]

# The levels of the standard logger.
_DEBUG, _INFO = 10, 20
_NO_KEY_HINT = (
    "The server requires an API key, but none was given: pass api_key, or set TUNESMITH_API_KEY "
    "or OPENAI_API_KEY. The server's message: "
)


def exchange(settings: Settings, spec: RequestSpec) -> Flow[Response]:
    """Carry out a request and return the successful response.

    Raises:
        APIConnectionError: No complete response arrived, after all retries.
        APIStatusError: The server responded with an error status, after all retries.
        DeadlineExceededError: The call's total time passed.
    """
    credential = settings.credential_for(spec.path)
    if credential is not None and not isinstance(credential, Secret):
        credential = _checked_key((yield Call(credential)))
    request = _build_request(settings, spec, credential)
    outcome = yield from _send(settings, request, 1)
    if isinstance(outcome, Response) and outcome.is_success:
        return outcome
    return (yield from _after_failure(settings, request, outcome))


def _checked_key(key: object) -> Secret:
    """Return the key that the user's function returned, wrapped at once so that it never shows."""
    secret = checked_key(key)
    if secret is None:
        raise ConfigurationError("The function given as api_key returned no key.")
    return secret


def _build_request(settings: Settings, spec: RequestSpec, key: Secret | None) -> Request:
    """Return the request for `spec`, with the client's settings and the credential added."""
    options = spec.options
    headers = HeaderFields(settings.headers)
    if key is not None:
        headers.update(settings.credential_headers(key))
    if spec.headers:
        headers.update(spec.headers)
    body = spec.body or json_body(spec.json, options.get("extra_body"))
    if isinstance(body, bytes):
        headers["content-type"] = "application/json"
    elif body is not None:
        headers["content-type"] = body.content_type
    if spec.method == "POST":
        headers["idempotency-key"] = options.get("idempotency_key") or f"tunesmith-{uuid.uuid4()}"
    limits = settings.timeout
    if options:
        _add_extra_headers(headers, options.get("extra_headers"))
        timeout = options.get("timeout", omit)
        limits = limits if is_omitted(timeout) else Timeout.of(timeout)
    return Request(
        spec.method,
        _url(settings, spec),
        headers,
        body,
        limits,
        stream=spec.stream,
        deadline=None if limits.total is None else time.monotonic() + limits.total,
    )


def _add_extra_headers(headers: HeaderFields, extra: Mapping[str, Any] | None) -> None:
    for name, value in (extra or {}).items():
        if not isinstance(value, str) and not is_omitted(value):
            kind = type(value).__name__
            raise TypeError(f"The field {name!r} of extra_headers is text, not {kind}.")
    update_fields(headers, extra)


def _url(settings: Settings, spec: RequestSpec) -> str:
    base_query = settings.base_query
    if "://" in spec.path:
        url, base_query = spec.path, ""
        if without_userinfo(url) != url:
            raise ConfigurationError(
                f"The URL for {without_userinfo(url)} contains a user name and password. Pass them "
                "in base_url, or as a header field in extra_headers."
            )
    elif settings.azure is not None:
        url = settings.azure.url(spec)
    else:
        url = settings.base_url + spec.path
    extra = spec.options.get("extra_query")
    if not (settings.default_query or spec.query or extra or base_query):
        return url
    values = {**settings.default_query, **(spec.query or {}), **(extra or {})}
    return with_query(url, base_query, query_string(values))


def _after_failure(settings: Settings, request: Request, outcome: Outcome) -> Flow[Response]:
    """Retry as the policy says, then return the success or raise the last failure."""
    machine, state = retrying(settings.retry)
    attempt = 1
    while True:
        delay = next_delay(machine, state, outcome) if _can_resend(request) else None
        if delay is None:
            break
        _check_delay(request, delay, outcome)
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
        _mask_echoes(request, outcome)
        keyless = outcome.status == HTTPStatus.UNAUTHORIZED and settings.credential is NO_KEY
        raise status_error(outcome, _NO_KEY_HINT if keyless else "")
    return outcome


def _mask_echoes(request: Request, response: Response) -> None:
    """Mask the credentials that a server repeats in its message, as the message is shown."""
    for secret in secret_values(request.headers):
        response.body = (response.body or b"").replace(secret.encode(), MASK.encode())


def _send(settings: Settings, request: Request, attempt: int) -> Flow[Outcome]:
    """Send once and follow redirects; a connection error is returned, not raised."""
    if logger.isEnabledFor(_DEBUG):
        log_request(request, attempt)
    if settings.hooks is not None:
        yield from settings.hooks.call_before(request, attempt)
    outcome: Outcome
    try:
        _check_deadline(request)
        response: Response = yield Send(request)
        if not response.is_success and is_redirect(response):
            response = yield from _follow_redirects(request, response)
        else:
            response.sent = request
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


def _follow_redirects(request: Request, response: Response) -> Flow[Response]:
    for _ in range(MAX_REDIRECTS):
        request = redirected(request, response)
        _check_deadline(request)
        response = yield Send(request)
        if not is_redirect(response):
            response.sent = request
            return response
    raise TooManyRedirectsError(
        f"The server redirected more than {MAX_REDIRECTS} times, the last time to "
        f"{shown_url(request.url)}.",
        request=request.info,
        retryable=False,
    )


def _check_deadline(request: Request) -> None:
    if request.deadline is not None and time.monotonic() >= request.deadline:
        raise deadline_exceeded(request)


def _check_delay(request: Request, delay: float, outcome: Outcome) -> None:
    if request.deadline is None or time.monotonic() + delay < request.deadline:
        return
    if isinstance(outcome, Response):
        _mask_echoes(request, outcome)
    cause = outcome if isinstance(outcome, APIConnectionError) else status_error(outcome)
    raise deadline_exceeded(request) from cause.with_traceback(None)


def _can_resend(request: Request) -> bool:
    body = request.body
    return body is None or isinstance(body, bytes) or body.replayable


def status_error(response: Response, prefix: str = "") -> APIStatusError:
    """Return the error for a response with an error status; `prefix` precedes the server's text."""
    body = _error_body(response)
    message = body.get("message") if isinstance(body, Mapping) else None
    text = message if isinstance(message, str) and message else _excerpt(response)
    details = [f"status {response.status}"]
    if response.request_id:
        details.append(f"request id {response.request_id}")
    error_class = status_error_class(response.status)
    return error_class(
        f"{prefix}{text} ({', '.join(details)})", response=response.info(), body=body
    )


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
