"""Generates answers with models: in a process on this machine or with a vLLM server.

`create_local_backend`, `VllmBackend` and `ManagedVllmBackend` make a `ServingBackend`;
`GenerationRequest` goes in and `GenerationDelta` comes out. Importing this loads no torch, and
nothing here knows of HTTP requests, keys or the database.
"""

from .backend import ServingBackend
from .generation import (
    ChatPrompt,
    GenerationDelta,
    GenerationRequest,
    GenerationUsage,
    TokenLogprob,
    TopLogprob,
)
from .generation_errors import GenerationError, WorkerStoppedError
from .local_backend import LocalBackend, create_local_backend
from .managed_vllm import ManagedVllmBackend, ManagedVllmSettings
from .vllm_backend import VllmBackend
from .worker_protocol import WorkerSettings

__all__ = [
    "ChatPrompt",
    "GenerationDelta",
    "GenerationError",
    "GenerationRequest",
    "GenerationUsage",
    "LocalBackend",
    "ManagedVllmBackend",
    "ManagedVllmSettings",
    "ServingBackend",
    "TokenLogprob",
    "TopLogprob",
    "VllmBackend",
    "WorkerSettings",
    "WorkerStoppedError",
    "create_local_backend",
]
