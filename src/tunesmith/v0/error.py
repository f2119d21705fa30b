"""The old SDK's exceptions, raised in place of today's.

OpenAIError
├── APIError                 a fault of the server
│   └── ServiceUnavailableError  status 503
├── TryAgain                 409
├── Timeout
├── APIConnectionError
├── InvalidRequestError      400, 404, 415, 422
├── AuthenticationError      401, or no key at all
├── PermissionError          403
├── RateLimitError           429
├── InvalidAPIType
└── SignatureVerificationError

All are TunesmithErrors. Each is raised from today's error, which is its `__cause__` and holds
the whole response.
"""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tunesmith import errors

from .objects import OpenAIObject, convert

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "APIConnectionError",
    "APIError",
    "AuthenticationError",
    "InvalidAPIType",
    "InvalidRequestError",
    "OpenAIError",
    "PermissionError",
    "RateLimitError",
    "ServiceUnavailableError",
    "SignatureVerificationError",
    "Timeout",
    "TryAgain",
    "translated",
]


class OpenAIError(errors.TunesmithError):
    """Base of the old SDK's errors.

    Attributes:
        user_message: The text for the user.
        http_body: The answer's body as text, None when no answer came.
        http_status: Its status.
        json_body: The body as data, where it is JSON.
        headers: Its header fields, names in lower case.
        code: The server's error code.
        param: The parameter that the error is about.
        request_id: The request's id, as the server reports it.
        error: The error object that the server sent.
    """

    def __init__(  # noqa: PLR0917 - the old SDK's signature
        self,
        message: str | None = None,
        http_body: str | None = None,
        http_status: int | None = None,
        json_body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, http_body, http_status, json_body, headers, code, param)
        self.user_message = message
        self.http_body = http_body
        self.http_status = http_status
        self.json_body = json_body
        self.headers: dict[str, str] = dict(headers or {})
        self.code = code
        self.param = param

    @property
    def request_id(self) -> str | None:
        """The request's id, as the server reports it."""
        return self.headers.get("x-request-id") or self.headers.get("request-id")

    @property
    def organization(self) -> str | None:
        """The organisation that the request was counted for."""
        return self.headers.get("openai-organization")

    @property
    def error(self) -> OpenAIObject | None:
        """The error object that the server sent, None where it sent none."""
        body = self.json_body or {}
        sent = body.get("error")
        return convert(sent) if isinstance(sent, dict) else None

    def __str__(self) -> str:
        text = self.user_message or "<empty message>"
        return f"Request {self.request_id}: {text}" if self.request_id else text

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(message={self.user_message!r}, "
            f"http_status={self.http_status!r}, request_id={self.request_id!r})"
        )


class APIError(OpenAIError):
    """A fault of the server, or a response that does not fit the API."""


class ServiceUnavailableError(APIError):
    """Status 503."""


class TryAgain(OpenAIError):  # noqa: N818 - the old SDK's name
    """Status 409: the model is not ready yet."""


class Timeout(OpenAIError):  # noqa: N818 - the old SDK's name
    """A time limit passed before the answer was complete."""


class APIConnectionError(OpenAIError):
    """No complete response arrived."""


class InvalidRequestError(OpenAIError):
    """A fault of the request: no such object or model, or an invalid parameter."""


class AuthenticationError(OpenAIError):
    """The API key is missing or wrong."""


class PermissionError(OpenAIError):  # noqa: A001 - the old SDK's name
    """The API key may not do this."""


class RateLimitError(OpenAIError):
    """Too many requests, or no quota left."""


class InvalidAPIType(OpenAIError):  # noqa: N818 - the old SDK's name
    """`api_type` names a kind of server that this module does not speak to."""


class SignatureVerificationError(OpenAIError):
    """Kept for code that names it; nothing here raises it."""


_BY_STATUS: dict[int, type[OpenAIError]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequestError,
    HTTPStatus.UNAUTHORIZED: AuthenticationError,
    HTTPStatus.FORBIDDEN: PermissionError,
    HTTPStatus.NOT_FOUND: InvalidRequestError,
    HTTPStatus.CONFLICT: TryAgain,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: InvalidRequestError,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequestError,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimitError,
    HTTPStatus.SERVICE_UNAVAILABLE: ServiceUnavailableError,
}


@contextmanager
def translated() -> Iterator[None]:
    """Raise the old SDK's error in place of each of today's errors."""
    try:
        yield
    except errors.APIStatusError as error:
        raise _of_status(error) from error
    except errors.APITimeoutError as error:
        raise Timeout(error.message) from error
    except errors.APIConnectionError as error:
        raise APIConnectionError(error.message) from error
    except errors.APIError as error:
        raise APIError(error.message, code=error.code, param=error.param) from error
    except errors.ConfigurationError as error:
        raise AuthenticationError(str(error)) from error


def _of_status(error: errors.APIStatusError) -> OpenAIError:
    kind = _BY_STATUS.get(error.status_code, APIError)
    response = error.response
    return kind(
        error.message,
        http_body=response.text if response else None,
        http_status=error.status_code,
        json_body={"error": error.body} if isinstance(error.body, dict) else None,
        headers=response.headers if response else None,
        code=error.code,
        param=error.param,
    )
