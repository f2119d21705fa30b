"""Decoding: from the bytes of a response to a typed object, in one step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.errors import APIResponseValidationError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from .response import Response

    ModelT = TypeVar("ModelT", bound=BaseModel)

__all__ = ["decode", "decode_any", "describe_mismatch"]

_EXCERPT_BYTES = 200
_MAX_FAULTS = 3


def decode(response: Response, model: type[ModelT]) -> ModelT:
    """Return the response's body as a `model`.

    Raises:
        APIResponseValidationError: The body is not JSON, or lacks a required field.
    """
    from pydantic import ValidationError

    try:
        value = model.model_validate_json(response.body or b"")
    except ValidationError as error:
        raise _mismatch(response, model.__name__, error) from None
    set_request_id = getattr(value, "_set_request_id", None)
    if set_request_id is not None:
        set_request_id(response.request_id)
    return value


def decode_any(response: Response, cast_to: Any) -> Any:
    """Return the body as `cast_to`: a model class, str, bytes, None, or any type that JSON fits.

    Raises:
        APIResponseValidationError: The body is not of this type.
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
            f"{_describe(response)} is not JSON. {_excerpt(response)}", response=response.info()
        ) from None
    if cast_to in {Any, object, dict, list}:
        return content
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter[Any](cast_to).validate_python(content)
    except ValidationError as error:
        raise _mismatch(response, str(cast_to), error) from None


def _mismatch(response: Response, name: str, error: ValidationError) -> APIResponseValidationError:
    """Return the error for a body that is not of the type called `name`."""
    return APIResponseValidationError(
        f"{_describe(response)} is not a {name}: {describe_mismatch(error)}. {_excerpt(response)}",
        response=response.info(),
        body=response.text[:4096],
    )


def describe_mismatch(error: ValidationError) -> str:
    """Return the first errors that pydantic found, each with its location."""
    faults = error.errors(include_url=False, include_input=False)
    texts = [
        f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"
        for fault in faults[:_MAX_FAULTS]
    ]
    more = len(faults) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _describe(response: Response) -> str:
    request_id = f", request id {response.request_id}" if response.request_id else ""
    request = response.request
    return f"The response to {request.method} {request.url} (status {response.status}{request_id})"


def _excerpt(response: Response) -> str:
    body = response.body or b""
    start = body[:_EXCERPT_BYTES].decode("utf-8", "replace")
    return f"It begins: {start!r}" if body else "Its body is empty."
