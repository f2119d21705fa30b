"""Configures logging: text or JSON lines on standard error, and the audit log."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["configure"]


class _JsonFormatter(logging.Formatter):
    """Formats records as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: Literal["text", "json"], audit: Path) -> None:
    """Send the engine's and uvicorn's log to standard error.

    Args:
        log_format: "text" for people, "json" for machines.
        audit: File of the audit log: one JSON line per request that may change something, with
            who, what and when, never the content.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    for name in ("tunesmith", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)
    audit.touch(mode=0o600)
    audit_handler = logging.FileHandler(audit, encoding="utf-8")
    audit_handler.setFormatter(_JsonFormatter())
    audit_log = logging.getLogger("tunesmith.engine.audit")
    audit_log.handlers = [audit_handler]
    audit_log.propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
