"""What can go wrong with base models.

ModelError
├── CatalogError            the table of base models cannot be read
├── UnknownModelError       a name leads to no base model
├── ModelNotInstalledError  the base model is known but not on this machine
└── PullError               the base model could not be brought or converted
"""

from __future__ import annotations

from tunesmith.errors import TunesmithError

__all__ = [
    "CatalogError",
    "ModelError",
    "ModelNotInstalledError",
    "PullError",
    "UnknownModelError",
]


class ModelError(TunesmithError):
    """Base of the errors about base models."""


class CatalogError(ModelError):
    """The user's table of base models cannot be read; the message names file and key."""


class UnknownModelError(ModelError):
    """A name leads to no base model; the message lists the names that do."""


class ModelNotInstalledError(ModelError):
    """The base model is known but not on this machine; the message says how to get it."""


class PullError(ModelError):
    """The base model could not be brought here or converted."""
