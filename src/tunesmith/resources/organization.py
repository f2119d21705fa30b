"""What an administrator's key reads: the projects of an organisation, their limits, costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.organization import Costs, Project, ProjectRateLimit

from .base import APIResource
from .fine_tuning_jobs import PageOptions
from .operations import Resource, listing, operation
from .views import RawView, StreamingView

__all__ = [
    "Admin",
    "CostOptions",
    "Organization",
    "OrganizationProjects",
    "OrganizationProjectsRateLimits",
    "OrganizationUsage",
    "ProjectListOptions",
    "RateLimitListOptions",
]

_PROJECT = "/organization/projects/{project_id}"


class ProjectListOptions(PageOptions, total=False):
    """What `projects.list` takes."""

    include_archived: bool | Omit | NotGiven


class RateLimitListOptions(PageOptions, total=False):
    """What `rate_limits.list_rate_limits` takes besides the project."""

    before: str | Omit | NotGiven


class CostOptions(RequestOptions, total=False):
    """What `usage.costs` takes besides the time."""

    api_key_ids: Sequence[str] | Omit | NotGiven
    bucket_width: Literal["1d"] | Omit | NotGiven
    end_time: int | Omit | NotGiven
    group_by: Sequence[Literal["project_id", "line_item", "api_key_id"]] | Omit | NotGiven
    limit: int | Omit | NotGiven
    line_items: Sequence[str] | Omit | NotGiven
    page: str | Omit | NotGiven
    project_ids: Sequence[str] | Omit | NotGiven


class Admin(Resource[ModeT_co]):
    """`client.admin`: what needs an administrator's key."""

    @cached_property
    def organization(self) -> Organization[ModeT_co]:
        """The organisation of the key."""
        return Organization(self._executor)


class Organization(Resource[ModeT_co]):
    """`client.admin.organization`."""

    @cached_property
    def projects(self) -> OrganizationProjects[ModeT_co]:
        """The projects."""
        return OrganizationProjects(self._executor)

    @cached_property
    def usage(self) -> OrganizationUsage[ModeT_co]:
        """What was used and what it cost."""
        return OrganizationUsage(self._executor)


class OrganizationProjects(APIResource[ModeT_co]):
    """`/organization/projects`, reading only."""

    with_raw_response: RawView[OrganizationProjects[SyncRaw], OrganizationProjects[AsyncRaw]] = (
        RawView()
    )
    with_streaming_response: StreamingView[
        OrganizationProjects[SyncStreaming], OrganizationProjects[AsyncStreaming]
    ] = StreamingView()

    @listing
    def list(self, **params: Unpack[ProjectListOptions]) -> PageFlow[Project]:
        """Return the projects of the organisation.

        Args:
            after: Id of the project after which the page starts.
            limit: Projects per page, from 1 to 100; 20 by default.
            include_archived: Also return archived projects, which are left out by default.
            params: The request options.

        Raises:
            AuthenticationError: The key is none of an administrator.
        """
        return self._pages("/organization/projects", Project, params)

    @operation
    def retrieve(self, project_id: str, **params: Unpack[RequestOptions]) -> Flow[Project]:
        """Return a project.

        Args:
            project_id: "proj_…".
            params: The request options.

        Raises:
            NotFoundError: There is no such project.
        """
        return self._request("GET", fill_path(_PROJECT, project_id=project_id), Project, params)

    @cached_property
    def rate_limits(self) -> OrganizationProjectsRateLimits[ModeT_co]:
        """The limits of a project."""
        return OrganizationProjectsRateLimits(self._executor)


class OrganizationProjectsRateLimits(APIResource[ModeT_co]):
    """`/organization/projects/{id}/rate_limits`, reading only."""

    with_raw_response: RawView[
        OrganizationProjectsRateLimits[SyncRaw], OrganizationProjectsRateLimits[AsyncRaw]
    ] = RawView()
    with_streaming_response: StreamingView[
        OrganizationProjectsRateLimits[SyncStreaming],
        OrganizationProjectsRateLimits[AsyncStreaming],
    ] = StreamingView()

    @listing
    def list_rate_limits(
        self, project_id: str, **params: Unpack[RateLimitListOptions]
    ) -> PageFlow[ProjectRateLimit]:
        """Return what a project may use, by model.

        Args:
            project_id: "proj_…".
            after: Id of the limit after which the page starts.
            limit: Limits per page, 100 by default.
            before: Id of the limit before which the page ends.
            params: The request options.
        """
        path = fill_path(_PROJECT, project_id=project_id) + "/rate_limits"
        return self._pages(path, ProjectRateLimit, params)


class OrganizationUsage(APIResource[ModeT_co]):
    """`/organization/costs`."""

    with_raw_response: RawView[OrganizationUsage[SyncRaw], OrganizationUsage[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        OrganizationUsage[SyncStreaming], OrganizationUsage[AsyncStreaming]
    ] = StreamingView()

    @operation
    def costs(self, *, start_time: int, **params: Unpack[CostOptions]) -> Flow[Costs]:
        """Return what the organisation paid, one page of days.

        Args:
            start_time: Unix time in seconds at which the first day begins.
            api_key_ids: Only costs of these keys.
            bucket_width: The span of time of each bucket, "1d".
            end_time: Unix time in seconds at which the last day ends.
            group_by: What the costs of a day are split by: "project_id", "line_item",
                "api_key_id".
            limit: Days per page, from 1 to 180; 7 by default.
            line_items: Only costs of these line items.
            page: The `next_page` of the page before.
            project_ids: Only costs of these projects.
            params: The request options.
        """
        query = {"start_time": start_time, **params}
        return self._request("GET", "/organization/costs", Costs, query)
