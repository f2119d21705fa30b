"""OpenAI-style fine-tuning through one Python SDK, with an engine of its own.

    from tunesmith import Client

    client = Client()
    file = client.files.create(file="train.jsonl", purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id)
    job = client.fine_tuning.jobs.wait(job.id)

Everything here is loaded when it is first used: importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import datasets, engine, results, types
    from .azure import AsyncAzureClient, AzureClient
    from .client import DEFAULT_BASE_URL, AsyncClient, Client
    from .core.hooks import Hooks, RequestRecord, ResponseRecord, RetryRecord
    from .core.options import NOT_GIVEN, NotGiven, Omit, Timeout, not_given, omit
    from .core.retry import RetryPolicy
    from .errors import (
        APIConnectionError,
        APIError,
        APIResponseValidationError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
        ConnectTimeoutError,
        ContentFilterFinishReasonError,
        DeadlineExceededError,
        FileProcessingError,
        InternalServerError,
        LengthFinishReasonError,
        MissingExtraError,
        NotFoundError,
        PermissionDeniedError,
        PoolTimeoutError,
        RateLimitError,
        ReadTimeoutError,
        StreamTruncatedError,
        TooManyRedirectsError,
        TunesmithError,
        UnprocessableEntityError,
        WaitTimeoutError,
        WriteTimeoutError,
    )
    from .errors import TunesmithError as OpenAIError
    from .resources.bulk import MapResult
    from .transport.pages import AsyncPage, AsyncPaginator, Page
    from .transport.streams import AsyncStream, Stream

_ERRORS = (
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
    "StreamTruncatedError",
    "TooManyRedirectsError",
    "TunesmithError",
    "UnprocessableEntityError",
    "WaitTimeoutError",
    "WriteTimeoutError",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, ".errors"),
    **dict.fromkeys(("AsyncAzureClient", "AzureClient"), ".azure"),
    **dict.fromkeys(("AsyncClient", "Client", "DEFAULT_BASE_URL"), ".client"),
    **dict.fromkeys(("Hooks", "RequestRecord", "ResponseRecord", "RetryRecord"), ".core.hooks"),
    **dict.fromkeys(
        ("NOT_GIVEN", "NotGiven", "Omit", "Timeout", "not_given", "omit"), ".core.options"
    ),
    "MapResult": ".resources.bulk",
    "RetryPolicy": ".core.retry",
    **dict.fromkeys(("AsyncPage", "AsyncPaginator", "Page"), ".transport.pages"),
    **dict.fromkeys(("AsyncStream", "Stream"), ".transport.streams"),
}
_ROOMS = frozenset({"datasets", "engine", "results", "types"})
_ALIASES = {"OpenAIError": "TunesmithError"}

__all__ = [
    "DEFAULT_BASE_URL",
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncAzureClient",
    "AsyncClient",
    "AsyncPage",
    "AsyncPaginator",
    "AsyncStream",
    "AuthenticationError",
    "AzureClient",
    "BadRequestError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ConnectTimeoutError",
    "ContentFilterFinishReasonError",
    "DeadlineExceededError",
    "FileProcessingError",
    "Hooks",
    "InternalServerError",
    "LengthFinishReasonError",
    "MapResult",
    "MissingExtraError",
    "NotFoundError",
    "NotGiven",
    "Omit",
    "OpenAIError",
    "Page",
    "PermissionDeniedError",
    "PoolTimeoutError",
    "RateLimitError",
    "ReadTimeoutError",
    "RequestRecord",
    "ResponseRecord",
    "RetryPolicy",
    "RetryRecord",
    "Stream",
    "StreamTruncatedError",
    "Timeout",
    "TooManyRedirectsError",
    "TunesmithError",
    "UnprocessableEntityError",
    "WaitTimeoutError",
    "WriteTimeoutError",
    "datasets",
    "engine",
    "not_given",
    "omit",
    "results",
    "types",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    target = _ALIASES.get(name, name)
    if target not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[target], __name__), target)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
