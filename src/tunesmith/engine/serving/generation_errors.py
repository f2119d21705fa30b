"""What can go wrong between a request and its answer, told to the one who asked.

TunesmithError
└── EngineError
    └── GenerationError         this request cannot be answered; `status` says whose fault it is
        ├── WorkerStoppedError    the process that generates ended while it answered
        └── ModelNotServedError  the server that answers for this engine does not know the model
"""

from __future__ import annotations

from tunesmith.engine.domain.errors import EngineError

__all__ = ["GenerationError", "ModelNotServedError", "WorkerStoppedError"]


class GenerationError(EngineError):
    """A request that cannot be answered.

    Args:
        message: Text for the user.
        status: The HTTP status that fits: 400 for a wrong request, 5xx for a fault here.
        param: Name of the request's field at fault, if one is.
        code: Short machine-readable reason.
    """

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the arguments that made it."""
        return _rebuild, (type(self), self.message, self.status, self.param, self.code)


class WorkerStoppedError(GenerationError):
    """The generating process ended. The next request starts it again."""


class ModelNotServedError(GenerationError):
    """A vLLM server does not know the model, or no longer."""


def _rebuild(
    kind: type[GenerationError], message: str, status: int, param: str | None, code: str | None
) -> GenerationError:
    return kind(message, status=status, param=param, code=code)
