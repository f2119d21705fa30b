"""The URLs of operations on an Azure OpenAI endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .request import fill_path

if TYPE_CHECKING:
    from .request import RequestSpec

__all__ = ["AzureEndpoint"]

_DEPLOYMENT_PATHS = frozenset({"/completions", "/chat/completions"})


@dataclass(frozen=True, slots=True)
class AzureEndpoint:
    """An endpoint, and the deployment that serves its completions.

    Attributes:
        root: The endpoint with "/openai", without a trailing slash.
        deployment: The deployment's name; None uses each request's model as its name.
    """

    root: str
    deployment: str | None = None

    def url(self, spec: RequestSpec) -> str:
        """Return the URL of a request."""
        if spec.path not in _DEPLOYMENT_PATHS:
            return self.root + spec.path
        model = self.deployment or str((spec.json or {}).get("model") or "")
        return self.root + fill_path("/deployments/{model}", model=model) + spec.path
