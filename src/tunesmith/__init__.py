"""OpenAI-style fine-tuning through one Python SDK, with an engine of its own.

    from tunesmith import Client

    client = Client()
    file = client.files.create(file="train.jsonl", purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id)
    job = client.fine_tuning.jobs.wait(job.id)

Everything here is loaded when it is first used: importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_exports
from ._version import __version__ as __version__

# The public names, in one list for type checkers and for run time; see `_lazy`.
if TYPE_CHECKING:
    from . import datasets as datasets
    from . import engine as engine
    from . import results as results
    from . import types as types
    from .azure import AsyncAzureClient as AsyncAzureClient
    from .azure import AzureClient as AzureClient
    from .client import DEFAULT_BASE_URL as DEFAULT_BASE_URL
    from .client import AsyncClient as AsyncClient
    from .client import Client as Client
    from .core.hooks import Hooks as Hooks
    from .core.hooks import RequestRecord as RequestRecord
    from .core.hooks import ResponseRecord as ResponseRecord
    from .core.hooks import RetryRecord as RetryRecord
    from .core.options import NOT_GIVEN as NOT_GIVEN
    from .core.options import NotGiven as NotGiven
    from .core.options import Omit as Omit
    from .core.options import Timeout as Timeout
    from .core.options import not_given as not_given
    from .core.options import omit as omit
    from .core.retry import RetryPolicy as RetryPolicy
    from .errors import APIConnectionError as APIConnectionError
    from .errors import APIError as APIError
    from .errors import APIResponseValidationError as APIResponseValidationError
    from .errors import APIStatusError as APIStatusError
    from .errors import APITimeoutError as APITimeoutError
    from .errors import AuthenticationError as AuthenticationError
    from .errors import BadRequestError as BadRequestError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ConflictError as ConflictError
    from .errors import ConnectTimeoutError as ConnectTimeoutError
    from .errors import ContentFilterFinishReasonError as ContentFilterFinishReasonError
    from .errors import DeadlineExceededError as DeadlineExceededError
    from .errors import FileProcessingError as FileProcessingError
    from .errors import InternalServerError as InternalServerError
    from .errors import LengthFinishReasonError as LengthFinishReasonError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import NotFoundError as NotFoundError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import PoolTimeoutError as PoolTimeoutError
    from .errors import RateLimitError as RateLimitError
    from .errors import ReadTimeoutError as ReadTimeoutError
    from .errors import StreamTruncatedError as StreamTruncatedError
    from .errors import TooManyRedirectsError as TooManyRedirectsError
    from .errors import TunesmithError as TunesmithError
    from .errors import UnprocessableEntityError as UnprocessableEntityError
    from .errors import WaitTimeoutError as WaitTimeoutError
    from .errors import WriteTimeoutError as WriteTimeoutError
    from .resources.bulk import MapResult as MapResult
    from .resources.chat_stored import ExportedCompletions as ExportedCompletions
    from .resources.function_tools import pydantic_function_tool as pydantic_function_tool
    from .transport.pages import AsyncPage as AsyncPage
    from .transport.pages import AsyncPaginator as AsyncPaginator
    from .transport.pages import Page as Page
    from .transport.streams import AsyncStream as AsyncStream
    from .transport.streams import Stream as Stream

    OpenAIError = TunesmithError

lazy_exports(globals())
