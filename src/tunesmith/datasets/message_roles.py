"""The names that formats and data sets give to those who speak, and the role that each stands for.

Only names with one meaning are here: a name that is not is left for the checks to report.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ROLES", "standard_role"]

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""The roles of OpenAI's chat messages."""

_OTHER_NAMES: Final = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "ipython": "tool",
}


def standard_role(name: Any) -> Any:
    """Return the role that a name stands for; a name that is not known is returned as it is."""
    if not isinstance(name, str) or name in ROLES:
        return name
    plain = name.strip().casefold()
    return plain if plain in ROLES else _OTHER_NAMES.get(plain, name)
