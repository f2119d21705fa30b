"""Errors on the wire: always `{"error": {message, type, param, code}}`, whatever went wrong."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, cast

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

__all__ = ["ApiError", "envelope", "install", "invalid", "not_found"]

_log = logging.getLogger("tunesmith.engine")

_TOO_LARGE = 413
_TOO_MANY = 429
_SERVER = 500
_NO_SPACE = 507
_DISK_FULL = (
    "The engine's disk is full. Its operator can make room with `tunesmith engine gc`, or delete "
    "files and models that are no longer needed."
)
_NOT_ALLOWED = 405
_NOT_FOUND = 404


class ApiError(TunesmithError):
    """An answer other than success.

    Args:
        status: HTTP status. Never 409: older clients repeat those for ever.
        message: What is wrong and the way out.
        param: The field that is wrong.
        code: A fixed word for programs.
        type: The family of errors; by default derived from the status.
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
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.type: str = type or _type_of(status)
        self.headers: dict[str, str] = dict(headers or {})


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for a request that can never succeed as it is."""
    return ApiError(400, message, param=param, code=code)


def not_found(kind: str, identity: str) -> ApiError:
    """Return the error for an id that leads to nothing the caller may see."""
    return ApiError(
        404, f"No such {kind}: {identity}", param="id", code=f"{kind.replace(' ', '_')}_not_found"
    )


def envelope(error: ApiError) -> JSONResponse:
    """Return the response that carries an error."""
    body = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    return JSONResponse({"error": body}, error.status, headers=error.headers)


def install(app: FastAPI) -> None:
    """Give the app its handlers for every kind of exception."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(Exception, _unexpected)


def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class
    return envelope(error)


def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first: dict[str, Any] = error.errors()[0]
    place = _place(first, error.body)
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return envelope(invalid(f"The request body is not valid JSON. {reason}".strip()))
    if not place:
        return envelope(invalid("The request needs a JSON object as its body."))
    param = place[0] + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in place[1:])
    if first["type"] == "missing":
        return envelope(invalid(f"Missing required parameter: {param!r}.", param=param))
    if first["type"] == "extra_forbidden":
        message = f"Unrecognised parameter: {param!r}. Remove it, or check its spelling."
        return envelope(invalid(message, param=param, code="unknown_parameter"))
    return envelope(invalid(f"Invalid value for {param!r}: {first['msg']}.", param=param))


def _place(first: Mapping[str, Any], body: Any) -> list[str]:
    """Return the path of the field at fault, without the names of the types that were tried."""
    source, *parts = first["loc"]
    if source != "body":
        return [str(part) for part in parts]
    place: list[str] = []
    value: Any = body
    for part in parts:
        inside = isinstance(value, dict) and part in value
        if not inside and not (isinstance(value, list) and isinstance(part, int)):
            break
        place.append(str(part))
        value = cast("Any", value[part])
    if first["type"] == "missing" and parts:
        place.append(str(parts[-1]))
    return place


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == _NOT_FOUND:
        message = f"Unknown request URL: {request.method} {request.url.path}."
        return envelope(ApiError(_NOT_FOUND, message, code="unknown_url"))
    if error.status_code == _NOT_ALLOWED:
        message = f"Not allowed to {request.method} on {request.url.path}."
        answer = ApiError(
            _NOT_ALLOWED, message, code="method_not_supported", headers=error.headers or {}
        )
        return envelope(answer)
    code = "body_too_large" if error.status_code == _TOO_LARGE else None
    answer = ApiError(error.status_code, str(error.detail), code=code, headers=error.headers or {})
    return envelope(answer)


def _database_error(request: Request, error: Exception) -> JSONResponse:
    if "disk is full" in str(error):
        _log.error("request %s failed: the disk is full", _request_id(request))
        return envelope(ApiError(_NO_SPACE, _DISK_FULL, code="disk_full"))
    _log.error("database: %s (%s)", str(error).splitlines()[0], _request_id(request))
    message = "The engine's database is busy or out of reach. Try again shortly."
    return envelope(
        ApiError(503, message, code="database_unavailable", headers={"retry-after": "1"})
    )


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    identity = _request_id(request)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _log.error("request %s failed: the disk is full", identity)
        return envelope(ApiError(_NO_SPACE, _DISK_FULL, code="disk_full"))
    _log.error("request %s failed", identity, exc_info=error)
    message = f"The engine failed to answer. Its log tells more under the request id {identity}."
    return envelope(ApiError(_SERVER, message, code="internal_error"))


def _request_id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def _type_of(status: int) -> str:
    if status == _TOO_MANY:
        return "rate_limit_error"
    return "server_error" if status >= _SERVER else "invalid_request_error"
