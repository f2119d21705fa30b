"""The exceptions of tunesmith.

TunesmithError
├── MissingExtraError       a feature needs an optional dependency
├── ResultFileError         a result file that cannot be read
└── (each room adds its branch here)
"""

from __future__ import annotations

__all__ = ["MissingExtraError", "ResultFileError", "TunesmithError"]


class TunesmithError(Exception):
    """Base of every error that tunesmith raises on purpose. Its text is written for the user."""


class MissingExtraError(TunesmithError):
    """A feature needs an optional dependency that is not installed.

    Args:
        feature: What was asked for, as the subject of a sentence: "Drawing curves".
        extra: The extra of this package that brings what is missing: "plots".
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the extra '{extra}'. "
            f"Install it with: pip install 'tunesmith[{extra}]'"
        )
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.feature, self.extra)


class ResultFileError(TunesmithError):
    """A result file is not one, or is damaged; the message names the line and the column."""
