"""The engine's errors. They know nothing of HTTP: the API maps each kind to a status, once.

TunesmithError
├── TrainingError               a training cannot continue; `code` says why
└── EngineError                 the engine cannot start, or cannot continue
    ├── StoreError              the database or the folder of files cannot be used
    │   └── CorruptFileError    a stored file is no longer what was uploaded
    ├── LostLeaseError          another process has taken over this process's job
    └── RequestError            one request cannot be carried out; `kind` says why
        ├── JobStateError       the job's status does not allow it
        ├── QueueFullError      the organisation has too many unfinished jobs
        ├── DatabaseBusyError   too many requests wait for their turn to write
        └── UnknownHostError    the request names a host other than this machine

`engine.models` and `engine.serving` add branches of their own.
"""

from __future__ import annotations

import enum
import functools
from typing import Literal, TypeAlias

from tunesmith.errors import TunesmithError

__all__ = [
    "CorruptFileError",
    "DatabaseBusyError",
    "EngineError",
    "ErrorKind",
    "JobStateError",
    "LostLeaseError",
    "QueueFullError",
    "RequestError",
    "StoreError",
    "TrainingError",
    "TrainingErrorCode",
    "UnknownHostError",
]

TrainingErrorCode: TypeAlias = Literal[
    "invalid_training_file",
    "invalid_validation_file",
    "invalid_hyperparameters",
    "invalid_model",
    "corrupt_checkpoint",
    "out_of_memory",
    "disk_full",
]


class TrainingError(TunesmithError):
    """A training failed for a reason that trying again would not change.

    The message is written for the job's owner.

    Attributes:
        code: The kind of reason, for programs.
    """

    def __init__(self, message: str, code: TrainingErrorCode) -> None:
        super().__init__(message)
        self.code: TrainingErrorCode = code

    def __reduce__(self) -> tuple[type[TrainingError], tuple[str, TrainingErrorCode]]:
        return type(self), (str(self), self.code)


class EngineError(TunesmithError):
    """The engine cannot start or was found in a state that it cannot serve from."""


class StoreError(EngineError):
    """The database or the folder of files cannot be used; the text says why and what to do."""


class CorruptFileError(StoreError):
    """A stored file no longer has the content that was uploaded."""


class LostLeaseError(EngineError):
    """Another process has taken over this process's job; it must stop and write nothing."""


class ErrorKind(enum.Enum):
    """Why a request cannot be carried out. Each kind is one HTTP status in the API."""

    INVALID = "invalid"
    """The request can never succeed as it is."""
    NOT_FOUND = "not_found"
    """It names something that the caller's organisation does not have."""
    WRONG_HOST = "wrong_host"
    """It was sent to a host name that this engine does not answer for."""
    LIMIT_REACHED = "limit_reached"
    """A limit has been reached; the same request may succeed later."""
    INTERNAL = "internal"
    """The engine is at fault."""
    UNSUPPORTED = "unsupported"
    """The engine cannot do this."""
    UPSTREAM = "upstream"
    """A server that the engine depends on failed."""
    UNAVAILABLE = "unavailable"
    """The engine cannot answer now; the same request may succeed later."""


class RequestError(EngineError):
    """A request cannot be carried out.

    Subclasses set defaults for everything but the message.

    Attributes:
        message: What is wrong and what to do about it, for the user.
        kind: Why it cannot be carried out.
        param: Name of the request's parameter at fault, if there is one.
        code: Short machine-readable reason.
        retry_after: Seconds after which the same request may succeed, where that is known.
    """

    kind: ErrorKind = ErrorKind.INVALID
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or self.kind
        self.param = param or self.param
        self.code = code or self.code
        self.retry_after = retry_after or self.retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the arguments that made it."""
        make = functools.partial(
            type(self),
            kind=self.kind,
            param=self.param,
            code=self.code,
            retry_after=self.retry_after,
        )
        return make, (self.message,)


class JobStateError(RequestError):
    """The job's status does not allow the operation."""

    param: str | None = "id"
    code: str | None = "job_state"


class QueueFullError(RequestError):
    """The organisation has as many unfinished jobs as it may have."""

    kind: ErrorKind = ErrorKind.LIMIT_REACHED
    code: str | None = "queue_full"
    retry_after: int | None = 30


class DatabaseBusyError(RequestError):
    """Too many requests wait for their turn to write to the database."""

    kind: ErrorKind = ErrorKind.UNAVAILABLE
    code: str | None = "database_unavailable"
    retry_after: int | None = 1


class UnknownHostError(RequestError):
    """While no API key exists, a request names a host other than this machine."""

    kind: ErrorKind = ErrorKind.WRONG_HOST
    code: str | None = "unknown_host"
