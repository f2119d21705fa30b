"""How many images a row has, and how many rows have any: limits of the destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.findings import LocationCounter
from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.rules import make_finding

if TYPE_CHECKING:
    from tunesmith.datasets.findings import Finding

    from .base import CheckedData, ValidRows
    from .settings import CheckSettings

__all__ = ["Images"]


class Images:
    """Rows with images, and those with more than the destination accepts."""

    def __init__(self, settings: CheckSettings) -> None:
        self.limit: int | None = settings.images_per_row
        self.row_limit: int | None = settings.rows_with_images
        self.rows: int = 0
        self.over: LocationCounter = LocationCounter(settings.max_examples)

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        if rows.conversations is not None or rows.pairs is not None:
            return  # plain texts
        for index, value in enumerate(rows.values):
            count = _count(value.get("messages"))
            self.rows += bool(count)
            if self.limit is not None and count > self.limit:
                message = f"{count:,} images, more than {self.limit:,}"
                self.over.add(rows.location(index, "$.messages", message))

    def merge(self, following: Images, lines: int) -> None:
        """See `Check.merge`."""
        self.rows += following.rows
        self.over.merge(following.over, lines)

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        del data
        findings: list[Finding] = []
        if self.over.count:
            findings.append(make_finding("images-too-many", self.over))
        if self.row_limit is not None and self.rows > self.row_limit:
            detail = f"{self.rows:,} of at most {self.row_limit:,}"
            findings.append(
                make_finding("image-rows-too-many", LocationCounter(1, 1), detail=detail)
            )
        return findings


def _count(messages: Any) -> int:
    if not is_array(messages):
        return 0
    contents = [message.get("content") for message in messages if is_object(message)]
    return sum(
        is_object(part) and part.get("type") == "image_url"
        for content in contents
        if is_array(content)
        for part in content
    )
