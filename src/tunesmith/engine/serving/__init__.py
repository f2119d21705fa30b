"""Answers from models: one process that generates, or a vLLM server, and our handle on either.

`create_generator` and `VllmServing` give the handle, a `Serving`; `GenerationRequest` and
`GenerationDelta` are what goes in and what comes out. Importing this loads no torch.
"""

from .errors import GenerationError, GeneratorStopped
from .generator import Generator, create_generator
from .handle import Serving
from .messages import (
    ChatPrompt,
    GenerationDelta,
    GenerationRequest,
    GenerationUsage,
    ScoredToken,
    TokenCandidate,
)
from .settings import WorkerSettings
from .vllm import VllmServing

__all__ = [
    "ChatPrompt",
    "GenerationDelta",
    "GenerationError",
    "GenerationRequest",
    "GenerationUsage",
    "Generator",
    "GeneratorStopped",
    "ScoredToken",
    "Serving",
    "TokenCandidate",
    "VllmServing",
    "WorkerSettings",
    "create_generator",
]
