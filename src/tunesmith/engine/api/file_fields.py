"""The fields that describe a file in the requests that create one."""

from __future__ import annotations

import re
from typing import Any, cast

from tunesmith.engine.domain.json_values import find_json_fault

from .http_errors import invalid

__all__ = ["PURPOSES", "base_name", "check_prompt_format", "check_purpose", "lifetime_seconds"]

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
_MIN_LIFETIME_SECONDS = 3600
_MAX_LIFETIME_SECONDS = 2_592_000
_MAX_NAME_LENGTH = 255


def base_name(filename: str | None) -> str:
    """Return the name to store: without folders and control characters, never empty."""
    name = re.split(r"[/\\]", filename or "")[-1]
    name = "".join(character for character in name if character.isprintable())
    return name[:_MAX_NAME_LENGTH] or "upload"


def check_purpose(purpose: str | None) -> str:
    """Return a known purpose.

    Raises:
        ApiError: It is missing or unknown.
    """
    if purpose is None:
        raise invalid("Missing required parameter: 'purpose'.", param="purpose")
    if purpose not in PURPOSES:
        known = ", ".join(PURPOSES)
        raise invalid(f"{purpose!r} is not one of the purposes {known}.", param="purpose")
    return purpose


def lifetime_seconds(anchor: str | None, seconds: str | None) -> int | None:
    """Return how long a file is kept after its creation; None for ever.

    Args:
        anchor: `expires_after[anchor]` of the request.
        seconds: `expires_after[seconds]`, as text.

    Raises:
        ApiError: One of them is missing or invalid.
    """
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise invalid("expires_after[anchor] must be 'created_at'.", param="expires_after")
    if seconds is None or not re.fullmatch(r"\d{1,9}", seconds, re.ASCII):
        raise invalid("expires_after[seconds] must be a whole number.", param="expires_after")
    if not _MIN_LIFETIME_SECONDS <= int(seconds) <= _MAX_LIFETIME_SECONDS:
        raise invalid(
            f"expires_after[seconds] must be between {_MIN_LIFETIME_SECONDS} and "
            f"{_MAX_LIFETIME_SECONDS}.",
            param="expires_after",
        )
    return int(seconds)


def check_prompt_format(value: Any) -> dict[str, Any]:
    """Return a prompt format that can be stored and listed.

    Raises:
        ApiError: 400: it is no JSON object, or has what JSON cannot express.
    """
    if not isinstance(value, dict):
        raise invalid("prompt_format must be a JSON object.", param="prompt_format")
    fault = find_json_fault(value)
    if fault is not None:
        raise invalid(f"prompt_format cannot be stored: {fault}.", param="prompt_format")
    return cast("dict[str, Any]", value)
