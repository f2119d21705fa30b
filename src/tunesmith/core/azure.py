"""Where Azure keeps things: the address of an operation on an Azure OpenAI endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .request import fill_path

if TYPE_CHECKING:
    from .request import RequestSpec

__all__ = ["AzureEndpoint"]

_DEPLOYED = frozenset({"/completions", "/chat/completions"})


@dataclass(frozen=True, slots=True)
class AzureEndpoint:
    """An endpoint, and the deployment that serves its completions.

    Attributes:
        root: The endpoint with "/openai", no slash at its end.
        deployment: The deployment's name; None takes each request's model for it.
    """

    root: str
    deployment: str | None = None

    def url(self, spec: RequestSpec) -> str:
        """Return the address of a spec."""
        if spec.path not in _DEPLOYED:
            return self.root + spec.path
        model = self.deployment or str((spec.json or {}).get("model") or "")
        return self.root + fill_path("/deployments/{model}", model=model) + spec.path
