"""The exceptions of tunesmith.

TunesmithError
├── MissingExtraError                 a feature needs an optional dependency
├── ConfigurationError                a client cannot be set up: no key, a bad URL
├── APIError                          a request to a server went wrong
│   ├── APIConnectionError            no whole answer arrived
│   │   ├── APITimeoutError           a time limit passed
│   │   │   ├── ConnectTimeoutError   … while connecting
│   │   │   ├── ReadTimeoutError      … while waiting for bytes
│   │   │   ├── WriteTimeoutError     … while sending
│   │   │   ├── PoolTimeoutError      … while waiting for a free connection
│   │   │   └── DeadlineExceededError … the total allowed to the whole call
│   │   ├── StreamTruncatedError      a stream ended before its end mark
│   │   └── TooManyRedirectsError
│   ├── APIResponseValidationError    an answer that is not what the contract says
│   └── APIStatusError                an answer with status 4xx or 5xx
│       ├── BadRequestError           400
│       ├── AuthenticationError       401
│       ├── PermissionDeniedError     403
│       ├── NotFoundError             404
│       ├── ConflictError             409
│       ├── UnprocessableEntityError  422
│       ├── RateLimitError            429
│       └── InternalServerError       500 and above
├── FileProcessingError               the server could not process an uploaded file
├── WaitTimeoutError                  a job did not end within the time given to `wait`
├── LengthFinishReasonError           `parse` met an answer cut off at the token limit
└── ContentFilterFinishReasonError    `parse` met an answer stopped by a content filter

Each error carries plain data only: it pickles, and it holds neither a connection
nor a credential. Other rooms add branches of their own under TunesmithError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import builtins

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "ConnectTimeoutError",
    "ContentFilterFinishReasonError",
    "DeadlineExceededError",
    "FileProcessingError",
    "InternalServerError",
    "LengthFinishReasonError",
    "MissingExtraError",
    "NotFoundError",
    "PermissionDeniedError",
    "PoolTimeoutError",
    "RateLimitError",
    "ReadTimeoutError",
    "RequestInfo",
    "ResponseInfo",
    "StreamTruncatedError",
    "TooManyRedirectsError",
    "TunesmithError",
    "UnprocessableEntityError",
    "WaitTimeoutError",
    "WriteTimeoutError",
    "status_error_class",
]


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What was asked: enough to find the request in a log, nothing secret."""

    method: str
    url: str


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """What was answered, as plain data.

    Attributes:
        status_code: The HTTP status.
        headers: Header fields with lower-case names.
        text: The body, decoded as UTF-8 with replacement characters.
        request: The request that was answered.
    """

    status_code: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    request: RequestInfo | None = None


class TunesmithError(Exception):
    """Base of every error that tunesmith raises on purpose. Its text is written for the user."""


class ConfigurationError(TunesmithError):
    """A client cannot be set up as asked."""


class APIError(TunesmithError):
    """A request to a server went wrong.

    Attributes:
        message: The text for the user.
        request: Method and URL, where known.
        body: The error object that the server sent, or None.
        code: The server's error code, such as "model_not_found".
        param: The parameter that the server objects to.
        type: The server's class of error.
    """

    def __init__(
        self,
        message: str,
        *,
        request: RequestInfo | None = None,
        body: object | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request = request
        self.body = body
        details: Mapping[Any, Any] = body if isinstance(body, Mapping) else {}
        self.code: str | None = details.get("code")
        self.param: str | None = details.get("param")
        self.type: str | None = details.get("type")


class APIConnectionError(APIError):
    """No whole answer arrived.

    Attributes:
        retryable: Whether trying again can help; false for a refused certificate, say.
    """

    def __init__(
        self,
        message: str = "Connection error.",
        *,
        request: RequestInfo | None = None,
        body: object | None = None,
        retryable: bool = True,
    ) -> None:
        super().__init__(message, request=request, body=body)
        self.retryable = retryable


class APITimeoutError(APIConnectionError):
    """A time limit passed before the answer was complete."""

    def __init__(
        self,
        message: str = "Request timed out.",
        *,
        request: RequestInfo | None = None,
        body: object | None = None,
        retryable: bool = True,
    ) -> None:
        super().__init__(message, request=request, body=body, retryable=retryable)


class ConnectTimeoutError(APITimeoutError):
    """The connection was not established within `connect` seconds."""


class ReadTimeoutError(APITimeoutError):
    """No bytes arrived for `read` seconds."""


class WriteTimeoutError(APITimeoutError):
    """No bytes could be sent for `write` seconds."""


class PoolTimeoutError(APITimeoutError):
    """All connections were busy for `pool` seconds; the server was never asked."""


class DeadlineExceededError(APITimeoutError):
    """The call as a whole, retries included, took longer than `total` seconds."""


class StreamTruncatedError(APIConnectionError):
    """A stream ended before its end mark: what was received may be incomplete."""


class TooManyRedirectsError(APIConnectionError):
    """The server kept redirecting, or redirected where the client does not follow."""


class APIResponseValidationError(APIError):
    """A successful answer whose body is not what the contract says.

    Attributes:
        response: The answer, its text cut to what a message can show.
        status_code: Its HTTP status.
        request_id: The server's `x-request-id`.
    """

    def __init__(
        self,
        message: str,
        *,
        response: ResponseInfo | None = None,
        body: object | None = None,
    ) -> None:
        super().__init__(message, request=response.request if response else None, body=body)
        self.response = response
        self.status_code: int = response.status_code if response else 0
        self.request_id: str | None = response.headers.get("x-request-id") if response else None


class APIStatusError(APIError):
    """An answer with an error status.

    Attributes:
        response: The answer as plain data.
        status_code: Its HTTP status.
        request_id: The server's `x-request-id`.
    """

    def __init__(
        self,
        message: str,
        *,
        response: ResponseInfo | None = None,
        body: object | None = None,
    ) -> None:
        super().__init__(message, request=response.request if response else None, body=body)
        self.response = response
        self.status_code: int = response.status_code if response else 0
        self.request_id: str | None = response.headers.get("x-request-id") if response else None


class BadRequestError(APIStatusError):
    """Status 400: the request is at fault; `param` names the field where the server knows it."""


class AuthenticationError(APIStatusError):
    """Status 401: the API key is missing or wrong."""


class PermissionDeniedError(APIStatusError):
    """Status 403: the API key may not do this."""


class NotFoundError(APIStatusError):
    """Status 404: no such object, model or route."""


class ConflictError(APIStatusError):
    """Status 409: the object is in a state that forbids this."""


class UnprocessableEntityError(APIStatusError):
    """Status 422: a value is well-formed but not acceptable."""


class RateLimitError(APIStatusError):
    """Status 429: too many requests, or no quota left."""


class InternalServerError(APIStatusError):
    """Status 500 and above: the server is at fault."""


_STATUS_ERRORS: Mapping[int, builtins.type[APIStatusError]] = MappingProxyType(
    {
        400: BadRequestError,
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: NotFoundError,
        409: ConflictError,
        422: UnprocessableEntityError,
        429: RateLimitError,
    }
)
_FIRST_SERVER_STATUS = 500


def status_error_class(status: int) -> builtins.type[APIStatusError]:
    """Return the error class that stands for an HTTP status."""
    if status >= _FIRST_SERVER_STATUS:
        return InternalServerError
    return _STATUS_ERRORS.get(status, APIStatusError)


class FileProcessingError(TunesmithError):
    """The server could not process an uploaded file, or did not within the time given.

    Attributes:
        file: The file object as last seen.
    """

    def __init__(self, message: str, *, file: Any = None) -> None:
        super().__init__(message)
        self.file = file


class WaitTimeoutError(TunesmithError, TimeoutError):
    """A job did not end within the time given to `wait`. The job itself goes on.

    Attributes:
        job: The job as last seen.
    """

    def __init__(self, message: str, *, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class LengthFinishReasonError(TunesmithError):
    """An answer was cut off at the token limit, so it cannot be parsed.

    Attributes:
        completion: The whole answer.
    """

    def __init__(self, message: str, *, completion: Any = None) -> None:
        super().__init__(message)
        self.completion = completion


class ContentFilterFinishReasonError(TunesmithError):
    """An answer was stopped by the server's content filter, so it cannot be parsed.

    Attributes:
        completion: The whole answer.
    """

    def __init__(self, message: str, *, completion: Any = None) -> None:
        super().__init__(message)
        self.completion = completion


class MissingExtraError(TunesmithError):
    """A feature needs an optional dependency that is not installed.

    Args:
        feature: What was asked for, as the subject of a sentence: "Drawing curves".
        extra: The extra of this package that brings what is missing: "plots".
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the extra '{extra}'. "
            f"Install it with: pip install 'tunesmith[{extra}]'"
        )
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.feature, self.extra)
