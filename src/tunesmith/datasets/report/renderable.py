"""What the renderers need of a report, so that they do not depend on `Report` itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.datasets.findings import Finding

__all__ = ["Renderable"]


class Renderable(Protocol):
    """A report to be shown; see `Report` for what the attributes mean."""

    @property
    def name(self) -> str | None: ...  # noqa: D102 - see `Report`
    @property
    def profile(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> str: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def task(self) -> str | None: ...  # noqa: D102
    @property
    def encoding(self) -> str | None: ...  # noqa: D102
    @property
    def tokens(self) -> int | None: ...  # noqa: D102
    @property
    def longest_row(self) -> int | None: ...  # noqa: D102
    @property
    def findings(self) -> Sequence[Finding]: ...  # noqa: D102
    @property
    def errors(self) -> Sequence[Finding]: ...  # noqa: D102
    @property
    def warnings(self) -> Sequence[Finding]: ...  # noqa: D102
