"""Graders, `/v1/fine_tuning/alpha/graders`, and permissions on checkpoints."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = [
    "CheckpointPermission",
    "CheckpointPermissionDeleted",
    "GraderRunErrors",
    "GraderRunMetadata",
    "GraderRunResponse",
    "GraderValidateResponse",
]


class GraderRunErrors(WireModel):
    """What went wrong in a run; every flag is false in a good one."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    formula_parse_error: bool = False
    invalid_variable_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_server_error: bool = False
    model_grader_server_error_details: str | None = None
    other_error: bool = False
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False


class GraderRunMetadata(WireModel):
    """How a run went; `execution_time` in seconds.

    `token_usage` counts all tokens of the judges; newer servers send an object of counts.
    """

    _essential: ClassVar[frozenset[str] | None] = frozenset({"errors", "scores"})

    errors: GraderRunErrors = Field(default_factory=GraderRunErrors)
    execution_time: float = 0.0
    name: str = ""
    sampled_model_name: str | None = None
    scores: dict[str, Any] = Field(default_factory=dict[str, Any])
    token_usage: int | dict[str, Any] | None = None
    type: str = ""


class GraderRunResponse(WireModel):
    """A sample's score."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"metadata", "reward", "sub_rewards"})

    metadata: GraderRunMetadata = Field(default_factory=GraderRunMetadata)
    model_grader_token_usage_per_model: dict[str, Any] = Field(default_factory=dict[str, Any])
    reward: float
    sub_rewards: dict[str, Any] = Field(default_factory=dict[str, Any])


class GraderValidateResponse(WireModel):
    """The grader as the server understood it."""

    grader: dict[str, Any] | None = None


class CheckpointPermission(WireModel):
    """A project's permission to use a checkpoint."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    object: Literal["checkpoint.permission"] | str = "checkpoint.permission"
    project_id: str = ""


class CheckpointPermissionDeleted(WireModel):
    """The answer to the deletion of a permission."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    deleted: bool = True
    object: Literal["checkpoint.permission"] | str = "checkpoint.permission"


set_public_module(globals(), "tunesmith.types")
