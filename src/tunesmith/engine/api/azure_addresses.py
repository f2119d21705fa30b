"""Azure's addresses of the same API: `/openai/v1/…`, and `/openai/deployments/NAME/…`.

A client that was made for Azure needs another endpoint and key, nothing else. What it calls a
deployment is a model's name here.
"""

from __future__ import annotations

import re

__all__ = ["own_address"]

_PREFIX = "/openai/"
_VERSIONED = "v1/"
_DEPLOYMENT = re.compile(r"deployments/([^/]+)/(chat/completions|completions)")


def own_address(path: str) -> str:
    """Return the path of the engine's route for one of Azure's; any other path as it is."""
    if not path.startswith(_PREFIX):
        return path
    rest = path.removeprefix(_PREFIX)
    if found := _DEPLOYMENT.fullmatch(rest):
        return f"/v1/engines/{found[1]}/{found[2]}"
    return f"/v1/{rest.removeprefix(_VERSIONED)}"
