"""Decoding: from the bytes of a response to a typed object, in one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from tunesmith.errors import APIResponseValidationError

from .lenient import describe_ids, parse_json, read_again

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from .response import Response

    ModelT = TypeVar("ModelT", bound=BaseModel)

__all__ = [
    "decode",
    "decode_any",
    "describe_body",
    "describe_mismatch",
    "error_text",
    "parsed_or_none",
    "reported_in",
]

_EXCERPT_BYTES = 200
_MAX_FAULTS = 3
_NOTHING = frozenset({b"", b"{}", b"null"})


def decode(response: Response, model: type[ModelT]) -> ModelT:
    """Return the response's body as a `model`.

    Raises:
        APIResponseValidationError: The body is not JSON, or lacks a required field.
    """
    value: Any
    try:
        value = model.model_validate_json(response.body or b"")
    except ValueError as error:  # a ValidationError, whose import would cost each call
        value = _decode_again(response, model, error)
    if (extra := value.__pydantic_extra__) and "error" in extra:
        _check_error(response, value, extra["error"])
    set_request_id = getattr(value, "_set_request_id", None)
    if set_request_id is not None:
        set_request_id(response.request_id)
    return value  # type: ignore[no-any-return]  # validated as a `model` above


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


def _decode_again(response: Response, model: type[ModelT], error: Any) -> ModelT:
    """Return a body that failed validation as a `model`, read leniently."""
    from pydantic import ValidationError

    body = response.body or b""
    content: Any = None
    if response.request.method == "DELETE" and body.strip() in _NOTHING:
        # Some servers confirm a deletion by the status alone.
        content = {"id": unquote(urlsplit(response.request.url).path.rpartition("/")[2])}
    else:
        try:
            content = parse_json(body.rstrip().removesuffix(b"data: [DONE]"))
        except ValueError:
            raise _mismatch(response, model.__name__, error) from None
    try:
        return read_again(model, content)
    except ValidationError as final:
        reported = reported_in(content)
        # What has more than the error is an answer, such as a failed job, that cannot be read.
        known = model.model_fields.keys() - {"error"}
        if reported is not None and not (isinstance(content, Mapping) and known & content.keys()):
            raise _reported_error(response, reported) from None
        raise _mismatch(response, model.__name__, final) from None


def _check_error(response: Response, value: Any, reported: Any) -> None:
    """Raise for an answer that reports an error and holds nothing else."""
    if reported and not getattr(value, "choices", True):
        raise _reported_error(response, reported)


def reported_in(content: Any) -> Any:
    """Return the error that a success has in place of the answer; None if it has none."""
    if isinstance(content, list) and len(content) == 1:  # pyright: ignore[reportUnknownArgumentType]
        content = content[0]
    if not isinstance(content, Mapping):
        return None
    fields = cast("Mapping[str, Any]", content)
    # Some servers send the error object itself.
    return fields.get("error") or (fields if fields.get("object") == "error" else None)


def _reported_error(response: Response, reported: Any) -> APIResponseValidationError:
    """Return the error for a success whose body is an error object."""
    text = error_text(reported) or "no text"
    return APIResponseValidationError(
        f"{_describe(response)} has an error in place of the answer: {text}",
        response=response.info(),
        body=reported,
        decoded=parsed_or_none(response.body or b""),
    )


def error_text(reported: Any) -> str:
    """Return the text of an error object, or of what a server sends in its place."""
    if isinstance(reported, Mapping):
        fields = cast("Mapping[str, Any]", reported)
        text = fields.get("message") or fields.get("detail") or fields.get("code")
        return str(text) if text else str(cast("Any", reported))[:_EXCERPT_BYTES]
    return str(reported)[:_EXCERPT_BYTES]


def parsed_or_none(body: bytes) -> Any:
    """Return the JSON value of a body; None if it has none."""
    try:
        return parse_json(body)
    except ValueError:
        return None


def _mismatch(response: Response, name: str, error: ValidationError) -> APIResponseValidationError:
    """Return the error for a body that is not of the type called `name`."""
    body = response.body or b""
    decoded = parsed_or_none(body)
    kind = "" if decoded is not None else describe_body(body, response.headers)
    fault = f" but {kind}" if kind else f": {describe_mismatch(error)}"
    if kind.startswith("a web page") and "/v1/" not in response.request.url:
        fault += ", or lack its /v1"
    ids = describe_ids(decoded)
    known = f" It holds {ids}." if ids else ""
    return APIResponseValidationError(
        f"{_describe(response)} is not a {name}{fault}.{known} {_excerpt(response)}",
        response=response.info(),
        body=response.text[:4096],
        decoded=decoded,
    )


def describe_body(body: bytes, headers: Mapping[str, str]) -> str:
    """Return what a body that is not JSON is, in words; empty if it cannot be told."""
    start = body[:_EXCERPT_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty"
    if start.startswith(b"<") or "text/html" in headers.get("content-type", ""):
        return "a web page, so the URL may be that of another service or of a login page"
    if start.startswith((b"data:", b"event:", b"id:", b": ")):
        return "an event stream, which was not asked for"
    return ""


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
