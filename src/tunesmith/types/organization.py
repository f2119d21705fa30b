"""What an administrator's key reads of an organisation: projects, their limits, costs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = ["Cost", "CostAmount", "CostBucket", "Costs", "Project", "ProjectRateLimit"]


class Project(WireModel):
    """A project of an organisation.

    Attributes:
        id: "proj_…".
        status: "active" or "archived".
        archived_at: Unix time in seconds; null while the project is active.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "name", "status", "created_at")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    object: Literal["organization.project"] | str = "organization.project"
    archived_at: int | None = None
    external_key_id: str | None = None
    name: str | None = None
    residency: str | None = None
    status: Literal["active", "archived"] | str | None = None


class ProjectRateLimit(WireModel):
    """What a project may use of one model."""

    list_columns: ClassVar[tuple[str, ...]] = (
        "model",
        "max_requests_per_1_minute",
        "max_tokens_per_1_minute",
    )
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    max_requests_per_1_minute: int = 0
    max_tokens_per_1_minute: int = 0
    model: str = ""
    object: Literal["project.rate_limit"] | str = "project.rate_limit"
    batch_1_day_max_input_tokens: int | None = None
    max_audio_megabytes_per_1_minute: int | None = None
    max_images_per_1_minute: int | None = None
    max_requests_per_1_day: int | None = None


class CostAmount(WireModel):
    """An amount of money; `currency` in lower case."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    currency: str | None = None
    value: float | None = None


class Cost(WireModel):
    """What one group of uses cost; the ids are null unless the costs are grouped by them."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    object: Literal["organization.costs.result"] | str = "organization.costs.result"
    amount: CostAmount | None = None
    api_key_id: str | None = None
    line_item: str | None = None
    project_id: str | None = None
    quantity: float | None = None
    quantity_unit: str | None = None


class CostBucket(WireModel):
    """The costs of one span of time, in Unix seconds."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    end_time: int = 0
    object: Literal["bucket"] | str = "bucket"
    results: list[Cost] = Field(default_factory=list[Cost])
    start_time: int = 0


class Costs(WireModel):
    """One page of costs; `next_page` is the `page` of the next request."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"data"})

    data: list[CostBucket]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["page"] | str = "page"


set_public_module(globals(), "tunesmith.types")
