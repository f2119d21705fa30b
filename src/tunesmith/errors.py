"""The exceptions of tunesmith.

TunesmithError
└── (each room adds its branch here)
"""

from __future__ import annotations

__all__ = ["TunesmithError"]


class TunesmithError(Exception):
    """Base of every error that tunesmith raises on purpose. Its text is written for the user."""
