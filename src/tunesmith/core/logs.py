"""What the client says of its requests, through the logger `tunesmith`.

DEBUG tells each sending with its header fields, secrets masked; INFO tells answers and
retries. Bodies and query strings are never told. `TUNESMITH_LOG` or `OPENAI_LOG`, set to
`debug` or `info`, shows the lines on the standard error output.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.errors import APIConnectionError

from .environment import environment

if TYPE_CHECKING:
    from .request import Request
    from .retry import Outcome

__all__ = ["log_outcome", "log_request", "log_retry", "logger"]

logger: logging.Logger = logging.getLogger("tunesmith")


def log_request(request: Request, attempt: int) -> None:
    """Tell a request that is about to be sent."""
    logger.debug("Sending %s, attempt %d: %r", _name(request), attempt, request.headers)


def log_outcome(request: Request, outcome: Outcome) -> None:
    """Tell an answer, or why there is none."""
    if isinstance(outcome, APIConnectionError):
        logger.info("%s: no answer (%s)", _name(request), type(outcome).__name__)
    else:
        logger.info(
            "%s: status %d after %.3f s, request id %s",
            _name(request),
            outcome.status,
            outcome.elapsed,
            outcome.request_id,
        )


def log_retry(request: Request, delay: float) -> None:
    """Tell that a request will be sent again."""
    logger.info("%s is sent again in %.2f s", _name(request), delay)


def _name(request: Request) -> str:
    parts = urlsplit(request.url)
    return f"{request.method} {parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"


def _show_as_asked() -> None:
    level = {"debug": logging.DEBUG, "info": logging.INFO}.get((environment("LOG") or "").lower())
    if level is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(asctime)s %(name)s %(levelname)s] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)


_show_as_asked()
