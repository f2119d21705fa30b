"""Where model names lead: to a model of the engine, to another service, or between them."""

from __future__ import annotations

from typing import Literal, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.model_routes import (
    ModelRoute,
    ModelRouteDeleted,
    RouteCurvePoint,
    RouteDecision,
)

from .base import APIResource
from .fine_tuning_jobs import PageOptions
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = ["CurveOptions", "ModelRouteSetOptions", "ModelRoutes"]


class ModelRouteSetOptions(RequestOptions, total=False):
    """What `model_routes.set` takes besides the name. What is left out stays as it is."""

    target: str | Omit | NotGiven
    upstream: str | Omit | NotGiven
    stage: Literal["upstream", "mirror", "percentage", "local"] | Omit | NotGiven
    percentage: float | Omit | NotGiven
    sticky_by: Literal["user", "conversation", "request"] | Omit | NotGiven
    fallback: bool | Omit | NotGiven
    timeout_seconds: float | Omit | NotGiven
    keep_contents: bool | Omit | NotGiven


class CurveOptions(RequestOptions, total=False):
    """What `model_routes.curves` takes besides the name."""

    hours: float | Omit | NotGiven
    points: int | Omit | NotGiven


class ModelRoutes(APIResource[ModeT_co]):
    """`/model_routes` of the tunesmith engine; the key needs the role of an owner."""

    with_raw_response: RawView[ModelRoutes[SyncRaw], ModelRoutes[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        ModelRoutes[SyncStreaming], ModelRoutes[AsyncStreaming]
    ] = StreamingView()

    @operation
    def set(self, name: str, **params: Unpack[ModelRouteSetOptions]) -> Flow[ModelRoute]:
        """Add a route or change one; requests that come in from then on go by it.

        Args:
            name: The name, exactly as requests spell it.
            target: The model of the engine that stands behind it.
            upstream: The other service, by its name in the engine's settings; "" for none.
            stage: Who answers: "upstream" the other service; "mirror" the other service, while the
                target is asked beside and compared; "percentage" the target for a share of the
                requests; "local" the target.
            percentage: That share, from 0 to 100.
            sticky_by: What keeps to one side in the stage "percentage": "user", "conversation" or
                "request".
            fallback: Whether the other side answers when the one whose turn it is fails.
            timeout_seconds: How long a side may take until its answer begins, 120 by default; an
                answer that is not streamed begins when it is complete.
            keep_contents: Whether requests and answers are kept with the decisions.
            params: The request options.

        Raises:
            BadRequestError: The parts contradict each other, or the name is that of a model.
            NotFoundError: There is no such target.
            PermissionDeniedError: The key's role is not owner.
        """
        return self._request("POST", "/model_routes", ModelRoute, params, fields={"name": name})

    @operation
    def retrieve(self, name: str, **params: Unpack[RequestOptions]) -> Flow[ModelRoute]:
        """Return a route.

        Args:
            name: The name that requests use.
            params: The request options.

        Raises:
            NotFoundError: There is no such route.
        """
        return self._request("GET", _path(name), ModelRoute, params)

    @listing
    def list(self, **params: Unpack[RequestOptions]) -> PageFlow[ModelRoute]:
        """Return the routes by name, all on one page.

        Args:
            params: The request options.
        """
        return self._pages("/model_routes", ModelRoute, params, paged=False)

    @operation
    def delete(self, name: str, **params: Unpack[RequestOptions]) -> Flow[ModelRouteDeleted]:
        """Delete a route: the name leads nowhere from then on.

        Args:
            name: The name that requests use.
            params: The request options.

        Raises:
            NotFoundError: There is no such route.
        """
        return self._request("DELETE", _path(name), ModelRouteDeleted, params)

    @listing
    def list_decisions(self, name: str, **params: Unpack[PageOptions]) -> PageFlow[RouteDecision]:
        """Return how requests to a name were answered, newest first.

        Args:
            name: The name that requests use.
            after: Id of the decision after which the page starts.
            limit: Decisions per page, from 1 to 100; 20 by default.
            params: The request options.
        """
        return self._pages(_path(name) + "/decisions", RouteDecision, params)

    @listing
    def curves(self, name: str, **params: Unpack[CurveOptions]) -> PageFlow[RouteCurvePoint]:
        """Return what happened to the requests to a name, in equal spans of time, oldest first.

        Args:
            name: The name that requests use.
            hours: How far back, 24 by default.
            points: Most spans, from 1 to 1000; 96 by default.
            params: The request options.
        """
        return self._pages(_path(name) + "/curves", RouteCurvePoint, params, paged=False)


def _path(name: str) -> str:
    return fill_path("/model_routes/{name}", name=name)
