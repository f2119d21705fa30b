"""From the bytes of an answer to a typed object, in one step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.errors import APIResponseValidationError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from .response import Response

    ModelT = TypeVar("ModelT", bound=BaseModel)

__all__ = ["decode", "decode_any", "describe_mismatch"]

_SHOWN_BYTES = 200
_SHOWN_FAULTS = 3


def decode(response: Response, model: type[ModelT]) -> ModelT:
    """Return the answer's body as a `model`.

    Raises:
        APIResponseValidationError: The body is not JSON or lacks what the contract requires.
    """
    from pydantic import ValidationError

    try:
        value = model.model_validate_json(response.body or b"")
    except ValidationError as error:
        raise mismatch(response, model.__name__, error) from None
    note = getattr(value, "_set_request_id", None)
    if note is not None:
        note(response.request_id)
    return value


def decode_any(response: Response, cast_to: Any) -> Any:
    """Return the body as `cast_to`: a model class, str, bytes, None, or anything JSON can be.

    Raises:
        APIResponseValidationError: The body does not fit.
    """
    if cast_to is None or cast_to is type(None):
        return None
    if cast_to is bytes:
        return response.body
    if cast_to is str:
        return response.text
    if hasattr(cast_to, "model_validate_json"):
        return decode(response, cast_to)
    try:
        content = json.loads(response.body or b"")
    except (ValueError, RecursionError):
        raise APIResponseValidationError(
            f"{_where(response)} is not JSON. {_shown(response)}", response=response.info()
        ) from None
    if cast_to in {Any, object, dict, list}:
        return content
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter[Any](cast_to).validate_python(content)
    except ValidationError as error:
        raise mismatch(response, str(cast_to), error) from None


def mismatch(response: Response, name: str, error: ValidationError) -> APIResponseValidationError:
    """Return the error for a body that does not fit the type called `name`."""
    return APIResponseValidationError(
        f"{_where(response)} is not a {name}: {describe_mismatch(error)}. {_shown(response)}",
        response=response.info(),
        body=response.text[:4096],
    )


def describe_mismatch(error: ValidationError) -> str:
    """Return the first faults that pydantic found, each with its place."""
    faults = error.errors(include_url=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"
        for fault in faults[:_SHOWN_FAULTS]
    ]
    more = len(faults) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _where(response: Response) -> str:
    name = f", request id {response.request_id}" if response.request_id else ""
    request = response.request
    return f"The answer to {request.method} {request.url} (status {response.status}{name})"


def _shown(response: Response) -> str:
    body = response.body or b""
    start = body[:_SHOWN_BYTES].decode("utf-8", "replace")
    return f"It begins: {start!r}" if body else "Its body is empty."
