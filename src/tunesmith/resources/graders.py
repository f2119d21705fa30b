"""Graders: test how answers will be scored in reinforcement fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.types.graders import GraderRunResponse, GraderValidateResponse

from .base import APIResource
from .operations import Resource, operation
from .views import RawView, StreamingView

__all__ = ["Alpha", "GraderRunOptions", "Graders"]

_GRADERS = "/fine_tuning/alpha/graders"


class GraderRunOptions(RequestOptions, total=False):
    """What `graders.run` takes besides the grader and the sample."""

    item: object | Omit | NotGiven


class Alpha(Resource[ModeT_co]):
    """`client.fine_tuning.alpha`."""

    @cached_property
    def graders(self) -> Graders[ModeT_co]:
        """Graders."""
        return Graders(self._executor)


class Graders(APIResource[ModeT_co]):
    """`/fine_tuning/alpha/graders`."""

    with_raw_response: RawView[Graders[SyncRaw], Graders[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Graders[SyncStreaming], Graders[AsyncStreaming]] = (
        StreamingView()
    )

    @operation
    def run(
        self, *, grader: Mapping[str, Any], model_sample: str, **params: Unpack[GraderRunOptions]
    ) -> Flow[GraderRunResponse]:
        """Score one sample.

        Args:
            grader: The grader, such as `{"type": "string_check", "name": …, "input": …,
                "reference": …, "operation": "eq"}`.
            model_sample: The answer to score.
            item: The data row that the grader's templates refer to.
            params: The request options.
        """
        fields = {"grader": grader, "model_sample": model_sample}
        return self._request("POST", f"{_GRADERS}/run", GraderRunResponse, params, fields=fields)

    @operation
    def validate(
        self, *, grader: Mapping[str, Any], **params: Unpack[RequestOptions]
    ) -> Flow[GraderValidateResponse]:
        """Check that a grader is well-formed.

        Args:
            grader: The grader, as for `run`.
            params: The request options.

        Raises:
            BadRequestError: It is not; the error says what is wrong.
        """
        fields = {"grader": grader}
        return self._request(
            "POST", f"{_GRADERS}/validate", GraderValidateResponse, params, fields=fields
        )
