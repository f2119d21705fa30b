"""Where Azure keeps things: the address of an operation on an Azure OpenAI endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .request import fill_path

if TYPE_CHECKING:
    from .request import Plan

__all__ = ["AzurePlace"]

_DEPLOYED = frozenset({"/completions", "/chat/completions"})


@dataclass(frozen=True, slots=True)
class AzurePlace:
    """An endpoint, and the deployment that serves its completions.

    Attributes:
        root: The endpoint with "/openai", no slash at its end.
        deployment: The deployment's name; None takes each request's model for it.
    """

    root: str
    deployment: str | None = None

    def url(self, plan: Plan) -> str:
        """Return the address of a plan."""
        if plan.path not in _DEPLOYED:
            return self.root + plan.path
        model = self.deployment or str((plan.json or {}).get("model") or "")
        return self.root + fill_path("/deployments/{model}", model=model) + plan.path
