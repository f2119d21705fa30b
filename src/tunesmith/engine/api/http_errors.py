"""Errors on the wire: always `{"error": {message, type, param, code}}`, whatever went wrong.

The one place where domain errors get their HTTP status.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from tunesmith.engine.domain.errors import ErrorKind, RequestError
from tunesmith.engine.domain.exhausted import (
    DISK_FULL,
    TOO_MANY_FILES,
    is_disk_full,
    is_too_many_files,
)
from tunesmith.errors import TunesmithError

from .not_offered import advice_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

__all__ = [
    "ApiError",
    "as_api_error",
    "error_body",
    "error_response",
    "install",
    "invalid",
    "not_found",
]

_log = logging.getLogger("tunesmith.engine")

_STATUS: dict[ErrorKind, HTTPStatus] = {
    ErrorKind.INVALID: HTTPStatus.BAD_REQUEST,
    ErrorKind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorKind.WRONG_HOST: HTTPStatus.MISDIRECTED_REQUEST,
    ErrorKind.LIMIT_REACHED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorKind.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorKind.UNSUPPORTED: HTTPStatus.NOT_IMPLEMENTED,
    ErrorKind.UPSTREAM: HTTPStatus.BAD_GATEWAY,
    ErrorKind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


class ApiError(TunesmithError):
    """An answer other than success.

    Args:
        status: HTTP status. Never 409: older clients retry those for ever.
        message: What is wrong and what to do about it.
        param: The field that is wrong.
        code: Short machine-readable reason.
        type: The class of errors; by default derived from the status.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the name on the wire
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status: int = int(status)
        self.message = message
        self.param = param
        self.code = code
        self.type: str = type or _type_of(status)
        self.headers: dict[str, str] = dict(headers or {})


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for a request that can never succeed as it is."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def not_found(kind: str, identity: str) -> ApiError:
    """Return the error for an id of an object that the organisation does not have."""
    return ApiError(
        HTTPStatus.NOT_FOUND,
        f"No such {kind}: {identity}",
        param="id",
        code=f"{kind.replace(' ', '_')}_not_found",
    )


def as_api_error(error: ApiError | RequestError) -> ApiError:
    """Return the answer for an error of the domain; an answer stays as it is."""
    if isinstance(error, ApiError):
        return error
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return ApiError(
        _STATUS[error.kind], error.message, param=error.param, code=error.code, headers=headers
    )


def error_response(error: ApiError) -> JSONResponse:
    """Return the response that carries an error."""
    return JSONResponse(error_body(error), error.status, headers=error.headers)


def error_body(error: ApiError) -> dict[str, Any]:
    """Return an error's JSON object, the same in responses and in event streams."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def install(app: FastAPI) -> None:
    """Register handlers for every kind of exception."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(Exception, _unexpected)


def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError | RequestError)  # noqa: S101 - registered for these
    return error_response(as_api_error(error))


def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first: dict[str, Any] = error.errors()[0]
    path = _field_path(first, error.body)
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return error_response(invalid(f"The request body is not valid JSON. {reason}".strip()))
    if not path:
        return error_response(invalid("The request needs a JSON object as its body."))
    param = path[0] + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path[1:])
    if first["type"] == "missing":
        return error_response(invalid(f"Missing required parameter: {param!r}.", param=param))
    if first["type"] == "extra_forbidden":
        message = f"Unrecognised parameter: {param!r}. Remove it, or check its spelling."
        return error_response(invalid(message, param=param, code="unknown_parameter"))
    return error_response(invalid(f"Invalid value for {param!r}: {first['msg']}.", param=param))


def _field_path(first: Mapping[str, Any], body: Any) -> list[str]:
    """Return the path of the invalid field, without the names of the types that were tried."""
    source, *parts = first["loc"]
    if source != "body":
        return [str(part) for part in parts]
    path: list[str] = []
    value: Any = body
    for part in parts:
        inside = isinstance(value, dict) and part in value
        if not inside and not (isinstance(value, list) and isinstance(part, int)):
            break
        path.append(str(part))
        value = cast("Any", value[part])
    if first["type"] == "missing" and parts:
        path.append(str(parts[-1]))
    return path


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"Unknown request URL: {request.method} {request.url.path}."
        message = _with_advice(message, request.url.path)
        return error_response(ApiError(HTTPStatus.NOT_FOUND, message, code="unknown_url"))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"Not allowed to {request.method} on {request.url.path}."
        if not request.url.path.startswith("/v1/"):  # a page of the dashboard
            message = _with_advice(message, request.url.path)
        answer = ApiError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            message,
            code="method_not_supported",
            headers=error.headers or {},
        )
        return error_response(answer)
    is_too_large = error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body_too_large" if is_too_large else None
    answer = ApiError(error.status_code, str(error.detail), code=code, headers=error.headers or {})
    return error_response(answer)


def _with_advice(message: str, path: str) -> str:
    advice = advice_for(path)
    return message if advice is None else f"{message} {advice}"


def _database_error(request: Request, error: Exception) -> JSONResponse:
    if is_disk_full(error):
        return _disk_full(_request_id(request))
    _log.error("database: %s (%s)", str(error).splitlines()[0], _request_id(request))
    message = "The engine's database is busy or out of reach. Try again shortly."
    return error_response(
        ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            message,
            code="database_unavailable",
            headers={"retry-after": "1"},
        )
    )


def _unstorable(_request: Request, _error: Exception) -> JSONResponse:
    message = (
        "The request has a text that the database cannot hold, most likely one with the character "
        "NUL, \\u0000. Remove it."
    )
    return error_response(invalid(message, code="unstorable_text"))


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    identity = _request_id(request)
    if is_disk_full(error):
        return _disk_full(identity)
    if is_too_many_files(error):
        _log.error("request %s failed: too many open files", identity)
        return error_response(
            ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                TOO_MANY_FILES,
                code="too_many_open_files",
                headers={"retry-after": "1"},
            )
        )
    _log.error("request %s failed", identity, exc_info=error)
    message = f"The engine failed. Its log has details under the request id {identity}."
    return error_response(
        ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, code="internal_error")
    )


def _disk_full(identity: str) -> JSONResponse:
    _log.error("request %s failed: the disk is full", identity)
    return error_response(ApiError(HTTPStatus.INSUFFICIENT_STORAGE, DISK_FULL, code="disk_full"))


def _request_id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def _type_of(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return "server_error" if is_ours else "invalid_request_error"
