"""Answers from models: one process that generates, or a vLLM server, and our handle on either.

`create_local_backend` and `VllmBackend` give the handle, a `Serving`; `GenerationRequest` and
`GenerationDelta` are what goes in and what comes out. Importing this loads no torch.
"""

from .backend import ServingBackend
from .generation import (
    ChatPrompt,
    GenerationDelta,
    GenerationRequest,
    GenerationUsage,
    ScoredToken,
    TokenCandidate,
)
from .generation_errors import GenerationError, WorkerStoppedError
from .local_backend import LocalBackend, create_local_backend
from .settings import WorkerSettings
from .vllm_backend import VllmBackend

__all__ = [
    "ChatPrompt",
    "GenerationDelta",
    "GenerationError",
    "GenerationRequest",
    "GenerationUsage",
    "LocalBackend",
    "ScoredToken",
    "ServingBackend",
    "TokenCandidate",
    "VllmBackend",
    "WorkerSettings",
    "WorkerStoppedError",
    "create_local_backend",
]
