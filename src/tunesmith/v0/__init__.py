"""The module-level style of the SDK before 1.0, over today's core.

    import tunesmith.v0 as openai

    openai.api_key = "…"
    openai.Completion.create(model=FINE_TUNED_MODEL, prompt=YOUR_PROMPT)

Calls, their parameters and their results are those of openai 0.28: objects
that are dictionaries with attributes, iterators for `stream=True`, a twin with an `a` in
front of each name for asyncio, errors in `error`. Only what belongs to files, fine-tuning,
completions and models is here.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any

from . import error
from .error import APIError, InvalidRequestError, OpenAIError
from .objects import OpenAIObject
from .resources import (
    ChatCompletion,
    Completion,
    Engine,
    File,
    FineTune,
    FineTuningJob,
    Model,
)

__all__ = [
    "APIError",
    "ChatCompletion",
    "Completion",
    "Engine",
    "File",
    "FineTune",
    "FineTuningJob",
    "InvalidRequestError",
    "Model",
    "OpenAIError",
    "OpenAIObject",
    "aiosession",
    "api_base",
    "api_key",
    "api_key_path",
    "api_type",
    "api_version",
    "error",
    "organization",
]

api_key: str | None = None
"""The API key; None reads TUNESMITH_API_KEY or OPENAI_API_KEY. A local server needs none."""

api_key_path: str | None = os.environ.get("OPENAI_API_KEY_PATH")
"""A file with the API key, read for each call."""

api_base: str | None = os.environ.get("OPENAI_API_BASE")
"""The server's URL; None reads TUNESMITH_BASE_URL or OPENAI_BASE_URL, else the local engine."""

organization: str | None = os.environ.get("OPENAI_ORGANIZATION")
"""The organisation to act for."""

api_type = "open_ai"
"""The kind of server; "open_ai" is the only one here."""

api_version: str | None = None
"""Without effect; kept for code that sets it."""

aiosession: ContextVar[Any] = ContextVar("aiosession", default=None)
"""Without effect, as `requestssession` is; kept for code that sets it."""
