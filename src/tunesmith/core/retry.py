"""Whether to send a request again, and when.

The rules are a `RetryPolicy`; the state machine that applies them is tenacity's,
which is asked for its decisions only (`BaseRetrying.iter`) and never sleeps itself.
It is entered after a first failure, because a call that succeeds needs no retry.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.errors import APIConnectionError, ConfigurationError

from .response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import tenacity

__all__ = ["Outcome", "RetryPolicy", "retrying", "server_delay"]

Outcome = Response | APIConnectionError
_FIRST_SERVER_STATUS = 500


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is sent again.

    The pause before retry n (from 0) is `initial_delay * 2**n`, at most `max_delay`,
    shortened by a random share of up to `jitter`. A server that names a pause
    (`retry-after-ms`, `retry-after`) is obeyed, unless it asks for more than
    `max_retry_after` seconds: then the failure is reported at once.

    Attributes:
        max_retries: Sendings after the first.
        statuses: Error statuses that are retried, besides those of 500 and above.
            A server's `x-should-retry: true` or `false` outweighs the status.
        should_retry: Decides instead of the rules where it returns a bool.
    """

    max_retries: int = 2
    initial_delay: float = 0.5
    max_delay: float = 8.0
    jitter: float = 0.25
    max_retry_after: float = 120.0
    statuses: frozenset[int] = field(default_factory=lambda: frozenset({408, 429}))
    should_retry: Callable[[Outcome], bool | None] | None = None

    def __post_init__(self) -> None:
        count: Any = self.max_retries
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ConfigurationError(
                f"max_retries must be a whole number of 0 or more, not {count!r}. "
                "Use 0 to send each request only once."
            )

    def wants(self, outcome: Outcome) -> bool:
        """Return whether this outcome is worth another sending."""
        if self.should_retry is not None:
            decision = self.should_retry(outcome)
            if decision is not None:
                return decision
        if isinstance(outcome, APIConnectionError):
            return outcome.retryable
        if outcome.is_success:
            return False
        wish = outcome.headers.get("x-should-retry")
        if wish in {"true", "false"}:
            return wish == "true" and self._is_patient_enough(outcome)
        retryable = outcome.status in self.statuses or outcome.status >= _FIRST_SERVER_STATUS
        return retryable and self._is_patient_enough(outcome)

    def delay(self, attempt: int, outcome: Outcome | None) -> float:
        """Return the seconds to pause after failed sending number `attempt`, counted from 1."""
        named = server_delay(outcome.headers) if isinstance(outcome, Response) else None
        if named is not None and 0 < named <= self.max_retry_after:
            return named
        # The exponent is bounded so that a long series cannot overflow a float.
        plain = min(self.initial_delay * 2.0 ** min(attempt - 1, 60), self.max_delay)
        return plain * (1 - self.jitter * random.random())  # noqa: S311 - spreads load, guards nothing

    def _is_patient_enough(self, response: Response) -> bool:
        named = server_delay(response.headers)
        return named is None or named <= self.max_retry_after


def server_delay(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the pause in seconds that a server asks for, None when it asks for none.

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
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


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

    Feed it with `record_outcome`, then ask `next_delay`.
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
    """Return the seconds to pause before the next sending, None when this outcome stands."""
    import tenacity

    state.set_result(outcome)
    decision = machine.iter(retry_state=state)
    if not isinstance(decision, tenacity.DoSleep):
        return None
    state.prepare_for_next_attempt()
    return float(decision)


def _outcome_of(state: tenacity.RetryCallState) -> Outcome:
    # Failures are recorded as results, so the machine never raises them itself.
    result: Outcome = state.outcome.result()  # type: ignore[union-attr]  # set before every question
    return result
