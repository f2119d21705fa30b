"""The exceptions of tunesmith. `tunesmith` and `tunesmith.errors` export every class of this tree.

TunesmithError
├── MissingExtraError                 a feature requires an optional dependency
├── ConfigurationError                a client cannot be set up: no key, an invalid URL
├── APIError                          a request to a server went wrong
│   ├── APIConnectionError            no complete response arrived
│   │   ├── APITimeoutError           a time limit passed
│   │   │   ├── ConnectTimeoutError   … while connecting
│   │   │   ├── ReadTimeoutError      … while waiting for bytes
│   │   │   ├── WriteTimeoutError     … while sending
│   │   │   ├── PoolTimeoutError      … while waiting for a free connection
│   │   │   └── DeadlineExceededError … for the call as a whole
│   │   ├── StreamTruncatedError      a stream ended before its end mark
│   │   └── TooManyRedirectsError     too many redirects, or one that is not followed
│   ├── APIResponseValidationError    a successful response with an unexpected body
│   └── APIStatusError                a response with status 4xx or 5xx
│       ├── BadRequestError           400
│       ├── AuthenticationError       401
│       ├── PermissionDeniedError     403
│       ├── NotFoundError             404
│       ├── ConflictError             409
│       ├── UnprocessableEntityError  422
│       ├── RateLimitError            429
│       └── InternalServerError       500 and above
├── FileProcessingError               the server could not process an uploaded file
├── WaitTimeoutError                  a job did not end within the timeout of `wait`
├── LengthFinishReasonError           `parse` got a completion cut off at the token limit
└── ContentFilterFinishReasonError    `parse` got a completion stopped by a content filter

Each error carries plain data only: it can be pickled, and holds neither a connection nor
a credential. Other packages define further subclasses of TunesmithError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ._lazy import set_public_module

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
    """Method and URL of a request: enough to find it in a log, nothing secret."""

    method: str
    url: str


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """A response as plain data.

    Attributes:
        status_code: The HTTP status.
        headers: Header fields with lower-case names.
        text: The body, decoded as UTF-8 with replacement characters.
        request: The request that it responds to.
    """

    status_code: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    request: RequestInfo | None = None


class TunesmithError(Exception):
    """Base class of every error that tunesmith raises deliberately, with a message for the user."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of the error; IPython asks for it."""
        from ._notebook import one_paragraph  # noqa: PLC0415 - for notebooks alone

        return one_paragraph(self)


class ConfigurationError(TunesmithError):
    """A client cannot be set up with the given settings."""


class APIError(TunesmithError):
    """A request to a server failed.

    Attributes:
        message: The text for the user.
        request: Method and URL, if known.
        body: The error object that the server sent, or None.
        code: The server's error code, such as "model_not_found".
        param: The parameter that the server objects to.
        type: The server's type of error.
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
    """No complete response arrived.

    Attributes:
        retryable: Whether a retry can help; false for a rejected certificate, for example.
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
    """A time limit passed before the response was complete."""

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
    """All connections were busy for `pool` seconds; the request was never sent."""


class DeadlineExceededError(APITimeoutError):
    """The call as a whole, retries included, took longer than `total` seconds."""


class StreamTruncatedError(APIConnectionError):
    """A stream ended before its end mark: the received data may be incomplete."""


class TooManyRedirectsError(APIConnectionError):
    """The server redirected too often, or to a URL that is not followed."""


class APIResponseValidationError(APIError):
    """A successful response whose body is not what the API's contract says.

    Attributes:
        response: The response, its text shortened.
        status_code: Its HTTP status.
        request_id: The server's id of the request, from `x-request-id`.
        decoded: What the body holds, as plain data, so that the id of an object that was made is
            not lost; None where it is not JSON.
    """

    def __init__(
        self,
        message: str,
        *,
        response: ResponseInfo | None = None,
        body: object | None = None,
        decoded: Any = None,
    ) -> None:
        super().__init__(message, request=response.request if response else None, body=body)
        self.response = response
        self.status_code: int = response.status_code if response else 0
        self.request_id: str | None = response.headers.get("x-request-id") if response else None
        self.decoded = decoded


class APIStatusError(APIError):
    """A response with an error status.

    Attributes:
        response: The response as plain data.
        status_code: Its HTTP status.
        request_id: The server's id of the request, from `x-request-id`.
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
    """Status 400: the request is invalid; `param` names the field if the server says which."""


class AuthenticationError(APIStatusError):
    """Status 401: the API key is missing or invalid."""


class PermissionDeniedError(APIStatusError):
    """Status 403: the API key may not do this."""


class NotFoundError(APIStatusError):
    """Status 404: no such object, model or route."""


class ConflictError(APIStatusError):
    """Status 409: the object is in a state that forbids this."""


class UnprocessableEntityError(APIStatusError):
    """Status 422: a value is well-formed but not accepted."""


class RateLimitError(APIStatusError):
    """Status 429: too many requests, or no quota left."""


class InternalServerError(APIStatusError):
    """Status 500 and above: the server failed."""


_STATUS_ERRORS: Mapping[int, builtins.type[APIStatusError]] = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: BadRequestError,
        HTTPStatus.UNAUTHORIZED: AuthenticationError,
        HTTPStatus.FORBIDDEN: PermissionDeniedError,
        HTTPStatus.NOT_FOUND: NotFoundError,
        HTTPStatus.CONFLICT: ConflictError,
        HTTPStatus.UNPROCESSABLE_ENTITY: UnprocessableEntityError,
        HTTPStatus.TOO_MANY_REQUESTS: RateLimitError,
    }
)


def status_error_class(status: int) -> builtins.type[APIStatusError]:
    """Return the error class for an HTTP status."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InternalServerError
    return _STATUS_ERRORS.get(status, APIStatusError)


class FileProcessingError(TunesmithError):
    """The server could not process an uploaded file, or not within the given time.

    Attributes:
        file: The file object as last retrieved.
    """

    def __init__(self, message: str, *, file: Any = None) -> None:
        super().__init__(message)
        self.file = file


class WaitTimeoutError(TunesmithError, TimeoutError):
    """A job did not end within the timeout of `wait`. The job itself goes on.

    Attributes:
        job: The job as last retrieved; None if the server did not answer in time.
    """

    def __init__(self, message: str, *, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class LengthFinishReasonError(TunesmithError):
    """A completion was cut off at the token limit, so it cannot be parsed.

    Attributes:
        completion: The completion.
    """

    def __init__(self, message: str, *, completion: Any = None) -> None:
        super().__init__(message)
        self.completion = completion


class ContentFilterFinishReasonError(TunesmithError):
    """A completion was stopped by the server's content filter, so it cannot be parsed.

    Attributes:
        completion: The completion.
    """

    def __init__(self, message: str, *, completion: Any = None) -> None:
        super().__init__(message)
        self.completion = completion


class MissingExtraError(TunesmithError, ImportError):
    """A feature requires an optional dependency that is not installed.

    Args:
        feature: The feature, as the subject of a sentence: "Drawing curves".
        extra: The extra of this package that installs the dependency: "plots".
    """

    def __init__(self, feature: str, extra: str) -> None:
        from ._install import install_extra  # noqa: PLC0415 - seldom needed

        super().__init__(
            f"{feature} needs the extra '{extra}'. Install it with: {install_extra(extra)}"
        )
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.feature, self.extra)


set_public_module(globals())
