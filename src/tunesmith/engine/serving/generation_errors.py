"""Why a request cannot be answered by a model.

TunesmithError
└── EngineError
    └── RequestError
        └── GenerationError          this request cannot be answered; `kind` says why
            ├── WorkerStoppedError   the model worker ended while it answered
            └── ModelNotServedError  the vLLM server does not know the model
"""

from __future__ import annotations

import functools

from tunesmith.engine.domain.errors import ErrorKind, RequestError

__all__ = ["GenerationError", "ModelNotServedError", "WorkerStoppedError"]

_RETRY_SECONDS = 1


class GenerationError(RequestError):
    """A request that cannot be answered.

    Args:
        message: Text for the user.
        kind: Why; by default the request itself is wrong.
        param: Name of the request's parameter at fault, if there is one.
        code: Short machine-readable reason.
        status: HTTP status to answer with instead of that of `kind`; for simulated failures.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind | None = None,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, kind=kind, param=param, code=code)
        self.status = status
        if self.kind in {ErrorKind.LIMIT_REACHED, ErrorKind.UNAVAILABLE}:
            self.retry_after: int | None = _RETRY_SECONDS

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the arguments that made it."""
        make = functools.partial(
            type(self), kind=self.kind, param=self.param, code=self.code, status=self.status
        )
        return make, (self.message,)


class WorkerStoppedError(GenerationError):
    """The model worker is not running, or ended while it answered. The next request starts it."""

    kind: ErrorKind = ErrorKind.UNAVAILABLE


class ModelNotServedError(GenerationError):
    """A vLLM server does not know the model, or no longer does."""

    kind: ErrorKind = ErrorKind.UPSTREAM
