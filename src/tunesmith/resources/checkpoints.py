"""Permissions on checkpoints: which projects may use a checkpoint as a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.graders import CheckpointPermission, CheckpointPermissionDeleted

from .base import APIResource, list_of_ids
from .operations import Resource, deprecated, listing, operation
from .views import RawView, StreamingView

__all__ = ["Checkpoints", "CheckpointsPermissions", "PermissionListOptions"]

_PERMISSIONS = "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"


class PermissionListOptions(RequestOptions, total=False):
    """What `permissions.list` takes besides the checkpoint."""

    after: str | Omit | NotGiven
    limit: int | Omit | NotGiven
    order: Literal["ascending", "descending"] | Omit | NotGiven
    project_id: str | Omit | NotGiven


class Checkpoints(Resource[ModeT_co]):
    """`client.fine_tuning.checkpoints`."""

    @cached_property
    def permissions(self) -> CheckpointsPermissions[ModeT_co]:
        """Which projects may use a checkpoint."""
        return CheckpointsPermissions(self._executor)


class CheckpointsPermissions(APIResource[ModeT_co]):
    """`/fine_tuning/checkpoints/{checkpoint}/permissions`; the key needs the role of an owner."""

    with_raw_response: RawView[
        CheckpointsPermissions[SyncRaw], CheckpointsPermissions[AsyncRaw]
    ] = RawView()
    with_streaming_response: StreamingView[
        CheckpointsPermissions[SyncStreaming],
        CheckpointsPermissions[AsyncStreaming],
    ] = StreamingView()

    @listing
    def create(
        self,
        fine_tuned_model_checkpoint: str,
        *,
        project_ids: Sequence[str],
        **params: Unpack[RequestOptions],
    ) -> PageFlow[CheckpointPermission]:
        """Give projects permission to use a checkpoint; return the new permissions.

        Args:
            fine_tuned_model_checkpoint: The checkpoint's model name.
            project_ids: Ids of the projects.
            params: The request options.
        """
        return self._pages(
            _path(fine_tuned_model_checkpoint),
            CheckpointPermission,
            {"project_ids": list_of_ids("project_ids", project_ids), **params},
            paged=False,
            method="POST",
        )

    @listing
    def list(
        self, fine_tuned_model_checkpoint: str, **params: Unpack[PermissionListOptions]
    ) -> PageFlow[CheckpointPermission]:
        """Return the permissions of a checkpoint.

        Args:
            fine_tuned_model_checkpoint: The checkpoint's model name.
            after: Id of the permission after which the page starts.
            limit: Permissions per page, 10 by default.
            order: "ascending" or "descending", by creation time.
            project_id: Only permissions of this project.
            params: The request options.
        """
        return self._pages(_path(fine_tuned_model_checkpoint), CheckpointPermission, params)

    @listing
    @deprecated("Use list(…).")
    def retrieve(
        self, fine_tuned_model_checkpoint: str, **params: Unpack[PermissionListOptions]
    ) -> PageFlow[CheckpointPermission]:
        """Return one page of permissions. Deprecated: `list` returns all of them.

        Args:
            fine_tuned_model_checkpoint: The checkpoint's model name.
            after: Id of the permission after which the page starts.
            limit: Permissions per page, 10 by default.
            order: "ascending" or "descending", by creation time.
            project_id: Only permissions of this project.
            params: The request options.
        """
        return self._pages(
            _path(fine_tuned_model_checkpoint), CheckpointPermission, params, paged=False
        )

    @operation
    def delete(
        self,
        permission_id: str,
        *,
        fine_tuned_model_checkpoint: str,
        **params: Unpack[RequestOptions],
    ) -> Flow[CheckpointPermissionDeleted]:
        """Delete a permission.

        Args:
            permission_id: "cp_…".
            fine_tuned_model_checkpoint: The checkpoint's model name.
            params: The request options.
        """
        path = _path(fine_tuned_model_checkpoint) + fill_path(
            "/{permission_id}", permission_id=permission_id
        )
        return self._request("DELETE", path, CheckpointPermissionDeleted, params)


def _path(checkpoint: str) -> str:
    return fill_path(_PERMISSIONS, fine_tuned_model_checkpoint=checkpoint)
