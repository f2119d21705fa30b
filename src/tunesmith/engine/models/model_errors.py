"""Errors about base models.

EngineError
└── ModelError
    ├── CatalogError            the table of base models cannot be read
    ├── UnknownModelError       a name stands for no base model; a RequestError, too
    ├── ModelNotInstalledError  the base model is not on this machine; a RequestError, too
    ├── UnsupportedModelError   neither training nor serving can run it; a RequestError, too
    └── PullError               the base model could not be downloaded or converted
"""

from __future__ import annotations

from tunesmith.engine.domain.errors import EngineError, ErrorKind, RequestError

__all__ = [
    "CatalogError",
    "ModelError",
    "ModelNotInstalledError",
    "PullError",
    "UnknownModelError",
    "UnsupportedModelError",
]


class ModelError(EngineError):
    """Base of the errors about base models."""


class CatalogError(ModelError):
    """The user's table of base models cannot be read; the message names file and key."""


class UnknownModelError(ModelError, RequestError):
    """A name stands for no base model; the message lists the names that do."""

    kind: ErrorKind = ErrorKind.NOT_FOUND
    param: str | None = "model"
    code: str | None = "model_not_found"


class ModelNotInstalledError(ModelError, RequestError):
    """The base model is known but not on this machine; the message says how to get it."""

    param: str | None = "model"
    code: str | None = "model_not_installed"


class UnsupportedModelError(ModelError, RequestError):
    """The base model can be neither trained nor served; the message says why."""

    param: str | None = "model"
    code: str | None = "unsupported_model"


class PullError(ModelError):
    """The base model could not be downloaded or converted."""
