"""Answers from models: one process that generates, and the server's handle on it.

`create_generator` gives the handle; `GenerationRequest` and `GenerationDelta` are what
goes in and what comes out. Importing this loads no torch.
"""

from .errors import GenerationError, GeneratorStopped
from .generator import Generator, create_generator
from .messages import (
    ChatPrompt,
    GenerationDelta,
    GenerationRequest,
    GenerationUsage,
    ScoredToken,
    TokenCandidate,
)
from .settings import WorkerSettings

__all__ = [
    "ChatPrompt",
    "GenerationDelta",
    "GenerationError",
    "GenerationRequest",
    "GenerationUsage",
    "Generator",
    "GeneratorStopped",
    "ScoredToken",
    "TokenCandidate",
    "WorkerSettings",
    "create_generator",
]
