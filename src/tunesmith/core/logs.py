"""Logging of requests, responses and retries, through the logger `tunesmith`.

DEBUG logs each attempt with its header fields, secrets masked; INFO logs responses and
retries. Bodies and query strings are never logged. `TUNESMITH_LOG` or `OPENAI_LOG`, set
to `debug` or `info`, prints the lines on standard error.
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
    """Log a request that is about to be sent."""
    logger.debug("Sending %s, attempt %d: %r", _name(request), attempt, request.headers)


def log_outcome(request: Request, outcome: Outcome) -> None:
    """Log a response, or why there is none."""
    if isinstance(outcome, APIConnectionError):
        logger.info("%s: no response (%s)", _name(request), type(outcome).__name__)
    else:
        logger.info(
            "%s: status %d after %.3f s, request id %s",
            _name(request),
            outcome.status,
            outcome.elapsed,
            outcome.request_id,
        )


def log_retry(request: Request, delay: float) -> None:
    """Log that a request will be sent again."""
    logger.info("%s is sent again in %.2f s", _name(request), delay)


def _name(request: Request) -> str:
    parts = urlsplit(request.url)
    return f"{request.method} {parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"


def _configure_from_environment() -> None:
    level = {"debug": logging.DEBUG, "info": logging.INFO}.get((environment("LOG") or "").lower())
    if level is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(asctime)s %(name)s %(levelname)s] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)


_configure_from_environment()
