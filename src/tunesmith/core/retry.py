"""Whether to send a request again, and when.

The rules are a `RetryPolicy`; the state machine that applies them is tenacity's,
of which only the decisions are used (`BaseRetrying.iter`); it never sleeps itself.
It starts after a first failure, because a call that succeeds needs no retry.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tunesmith._lazy import set_public_module
from tunesmith.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    ConfigurationError,
    DeadlineExceededError,
)

from .options import check_seconds
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import tenacity

__all__ = ["Outcome", "RetryPolicy", "may_pass", "next_delay", "retrying", "server_delay"]

Outcome = Response | APIConnectionError


_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT.value, HTTPStatus.TOO_MANY_REQUESTS.value})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is sent again.

    The delay before retry n (from 0) is `initial_delay * 2**n`, at most `max_delay`,
    reduced by a random fraction of up to `jitter`. A delay that the server requests
    (`retry-after-ms`, `retry-after`) takes precedence, unless it is longer than
    `max_retry_after` seconds: then the failure is raised at once.

    Attributes:
        max_retries: Attempts after the first.
        statuses: Error statuses that are retried, besides those of 500 and above.
            A server's `x-should-retry: true` or `false` overrides the status.
        should_retry: Overrides these rules if it returns a bool.
    """

    max_retries: int = 2
    initial_delay: float = 0.5
    max_delay: float = 8.0
    jitter: float = 0.25
    max_retry_after: float = 120.0
    statuses: frozenset[int] = _STATUSES
    should_retry: Callable[[Outcome], bool | None] | None = None

    def __post_init__(self) -> None:
        count: Any = self.max_retries
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ConfigurationError(
                f"max_retries must be a whole number of 0 or more, not {count!r}. "
                "Use 0 to send each request only once."
            )
        for name in ("initial_delay", "max_delay", "jitter", "max_retry_after"):
            if check_seconds(name, getattr(self, name)) is None:
                raise ConfigurationError(f"{name} must be a finite number.")
        if self.jitter > 1:
            raise ConfigurationError(f"jitter is a fraction from 0 to 1, not {self.jitter!r}.")
        if not all(isinstance(status, int) for status in self.statuses):
            raise ConfigurationError(f"statuses are numbers, not {set(self.statuses)!r:.80}.")

    def wants(self, outcome: Outcome) -> bool:
        """Return whether this outcome is to be retried."""
        if self.should_retry is not None:
            decision = self.should_retry(outcome)
            if decision is not None:
                return decision
        if isinstance(outcome, APIConnectionError):
            return outcome.retryable
        if outcome.is_success:
            return False
        passing = _status_may_pass(outcome.status, outcome.headers, self.statuses)
        return passing and self._accepts_delay(outcome)

    def delay(self, attempt: int, outcome: Outcome | None) -> float:
        """Return the seconds to wait after failed attempt number `attempt`, counted from 1."""
        requested = server_delay(outcome.headers) if isinstance(outcome, Response) else None
        if requested is not None and 0 < requested <= self.max_retry_after:
            return requested
        # The exponent is bounded so that a long series cannot overflow a float.
        backoff = min(self.initial_delay * 2.0 ** min(attempt - 1, 60), self.max_delay)
        return backoff * (1 - self.jitter * random.random())  # noqa: S311 - spreads load, not security

    def _accepts_delay(self, response: Response) -> bool:
        requested = server_delay(response.headers)
        return requested is None or requested <= self.max_retry_after


def may_pass(error: Exception) -> bool:
    """Return whether a call that failed with `error` may succeed later, without any change.

    By the same rules as retries, but for callers that wait long: a call's own deadline passes, and
    so does a page of a gateway in place of the API's answer.
    """
    if isinstance(error, APIConnectionError):
        return error.retryable or isinstance(error, DeadlineExceededError)
    if isinstance(error, APIStatusError):
        headers = error.response.headers if error.response else {}
        return _status_may_pass(error.status_code, headers, _STATUSES)
    if isinstance(error, APIResponseValidationError):
        # JSON is the API's own answer, and it will be the same next time.
        return error.decoded is None
    return False


def _status_may_pass(status: int, headers: Mapping[str, str], statuses: frozenset[int]) -> bool:
    requested = headers.get("x-should-retry")
    if requested in {"true", "false"}:
        return requested == "true"
    return status in statuses or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def server_delay(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the delay in seconds that a server requests, None if it requests none.

    Reads `retry-after-ms`, then `retry-after` as seconds or as an HTTP date
    (RFC 9110, section 10.2.3), relative to `now` (Unix time).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    from email.utils import parsedate_to_datetime

    try:
        timestamp = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, timestamp - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    if value is None or not 0 <= value < float("inf"):
        return None
    return value


def retrying(policy: RetryPolicy) -> tuple[tenacity.Retrying, tenacity.RetryCallState]:
    """Return tenacity's state machine for `policy` and the state of one call.

    Pass both to `next_delay` after each attempt.
    """
    import tenacity

    machine = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.max_retries + 1),
        wait=lambda state: policy.delay(state.attempt_number, _outcome_of(state)),
        retry=lambda state: policy.wants(_outcome_of(state)),
        retry_error_callback=lambda _: None,
    )
    machine.begin()
    return machine, tenacity.RetryCallState(machine, None, (), {})


def next_delay(
    machine: tenacity.Retrying, state: tenacity.RetryCallState, outcome: Outcome
) -> float | None:
    """Return the seconds to wait before the next attempt, None if this outcome is final."""
    import tenacity

    state.set_result(outcome)
    decision = machine.iter(retry_state=state)
    if not isinstance(decision, tenacity.DoSleep):
        return None
    state.prepare_for_next_attempt()
    return float(decision)


def _outcome_of(state: tenacity.RetryCallState) -> Outcome:
    # Failures are recorded as results, so that the machine never raises them itself.
    result: Outcome = state.outcome.result()  # type: ignore[union-attr]  # set before every decision
    return result


set_public_module(globals())
