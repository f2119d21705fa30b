"""Answers requests to names with a route: from another service, from a model here, or from both.

The side whose turn it is answers. If it fails before the first byte of its answer was sent, and
the route says so, the other side does. Each request is sent at most once to each side. A mirrored
request goes to the new model once the caller has its answer.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse

from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.models.model_errors import ModelError
from tunesmith.engine.routing.decisions import Decision, DecisionLog, Observation
from tunesmith.engine.routing.mirror import Mirror
from tunesmith.engine.routing.side_choice import side_of
from tunesmith.engine.routing.upstream_client import (
    ServiceAnswer,
    ServiceCall,
    ServiceFailedError,
    UpstreamClient,
)
from tunesmith.engine.routing.upstreams import UnknownUpstreamError

from .asked_beside import beside
from .generation_responses import CLIENT_CLOSED_REQUEST
from .http_errors import ApiError, as_api_error
from .observed_streams import ObservedStream, observed, passed_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request

    from tunesmith.engine.config import Limits
    from tunesmith.engine.routing.side_choice import Side
    from tunesmith.engine.routing.upstreams import Upstreams
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ModelRouteRow

    Handle = Callable[[Request], Awaitable[Response]]

__all__ = ["Gateway"]

_log = logging.getLogger("tunesmith.engine.routes")

# What a model here cannot do, but the other service could: not the caller's mistake.
_UNSUPPORTED = "unsupported_parameter"


class _SideFailedError(Exception):
    """A side has no answer that the caller should see if the other one has."""

    def __init__(self, reason: str, status: int, answer: Response | Exception) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.answer = answer


@dataclass(slots=True)
class _Routed:
    """One request while it is answered."""

    request: Request
    handle: Handle
    call: ServiceCall
    decision: Decision

    @property
    def route(self) -> ModelRouteRow:
        return self.decision.route


class Gateway:
    """Answers requests by their routes; used in one event loop.

    Args:
        upstreams: The other services.
        database: Where decisions are kept.
        limits: How long, how many, and how much is mirrored.
    """

    def __init__(self, upstreams: Upstreams, database: Database, limits: Limits) -> None:
        self._upstreams = upstreams
        self._client: UpstreamClient | None = None
        self._log = DecisionLog(
            database, days=limits.route_decision_days, most=limits.route_decisions
        )
        self._mirror = Mirror(
            self._log.add,
            most=limits.mirrored_requests,
            most_bytes=limits.mirrored_bytes,
            at_a_time=limits.mirrored_at_a_time,
        )

    async def stop(self) -> None:
        """End what runs beside requests, and write what has been decided."""
        await self._mirror.stop()
        await asyncio.to_thread(self._log.stop)
        if self._client is not None:
            await self._client.close()

    async def respond(
        self, request: Request, handle: Handle, route: ModelRouteRow, call: ServiceCall
    ) -> Response:
        """Answer a request to a name with a route.

        Args:
            request: The request; its body has been read.
            handle: Answers it from the model behind the name.
            route: The route.
            call: What the request asks for.
        """
        if route.upstream is None:
            response = await handle(request)
            _mark(request, response, route, "local", is_fallback=False)
            return response
        decision = Decision(
            route,
            endpoint=call.endpoint,
            request_id=str(request.scope.get("request_id", "")),
            stream=call.fields.get("stream") is True,
            request=call.body,
        )
        routed = _Routed(request, handle, call, decision)
        try:
            return await self._first_answer(routed, _sides(route, side_of(route, call.fields)))
        except BaseException:
            self._log.add(decision)
            raise

    async def _first_answer(self, routed: _Routed, sides: list[Side]) -> Response:
        """Return the answer of the first side that has one."""
        decision = routed.decision
        failures: list[_SideFailedError] = []
        for number, side in enumerate(sides):
            ask = self._ask_upstream if side == "upstream" else self._ask_local
            decision.side, decision.fallback = side, number > 0
            try:
                return await ask(routed)
            except _SideFailedError as error:
                _log.warning(
                    "%s: the %s side failed: %s (%s)",
                    routed.route.name,
                    side,
                    error.reason,
                    decision.request_id,
                )
                failures.append(error)
        decision.side, decision.fallback = "none", False
        answer = failures[0].answer  # of the side whose turn it was
        if isinstance(answer, Exception):
            raise answer
        self._log.add(decision)
        _mark(routed.request, answer, routed.route, "none", is_fallback=False)
        return answer

    # The other service.

    async def _ask_upstream(self, routed: _Routed) -> Response:
        observation = routed.decision.upstream = Observation()
        try:
            answer = await _while_connected(routed.request, self._send(routed))
        except ServiceFailedError as error:
            observation.fail(error.reason, error.status)
            raise _upstream_failed(routed.route, error) from None
        if answer is None:
            observation.fail("the caller has closed its connection")
            routed.decision.side = "none"
            self._log.add(routed.decision)
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        observation.status = answer.status
        observation.is_stream = answer.stream is not None
        observation.add(answer.body)
        if answer.stream is None:
            observation.end(is_whole=True)
            response = Response(answer.body, answer.status, answer.headers)
            self._answered(routed)
        else:
            response = ObservedStream(
                passed_on(answer, observation, routed.route),
                answer.status,
                answer.headers,
                lambda: self._answered(routed),
            )
        _mark_decision(routed, response)
        return response

    async def _send(self, routed: _Routed) -> ServiceAnswer:
        if self._client is None:
            self._client = UpstreamClient()
        route = routed.route
        try:
            upstream = self._upstreams.get(str(route.upstream))
        except UnknownUpstreamError as error:
            raise ServiceFailedError(error.message) from None
        return await self._client.ask(upstream, routed.call, route.timeout_seconds)

    def _answered(self, routed: _Routed) -> None:
        """Have the new model asked beside, if it is to be, or note the decision."""
        decision = routed.decision
        old = decision.upstream
        is_mirrored = decision.route.stage == "mirror" and not decision.fallback
        if is_mirrored and old is not None and old.is_comparable:
            ask = beside(
                routed.request, routed.call, decision.request_id, routed.route.timeout_seconds
            )
            self._mirror.add(decision, ask)
        else:
            self._log.add(decision)

    # The model behind the name.

    async def _ask_local(self, routed: _Routed) -> Response:
        observation = routed.decision.local = Observation()
        limit = routed.route.timeout_seconds
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                response = await routed.handle(routed.request)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise _local_failed(observation, _too_slow(limit)) from None
        except RequestValidationError:
            observation.fail("the request is not valid here", HTTPStatus.BAD_REQUEST)
            raise
        except (ApiError, RequestError) as error:
            answer = as_api_error(error)
            observation.fail(answer.message, answer.status)
            if _is_own_failure(error, answer):
                raise _SideFailedError(answer.message, answer.status, error) from None
            raise
        except Exception as error:  # noqa: BLE001 - the other side may have an answer
            _log.exception("request %s failed", routed.decision.request_id)
            raise _local_failed(observation, error) from None
        observation.status = response.status_code
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            observation.fail(f"status {response.status_code}", response.status_code)
            raise _SideFailedError("it failed", response.status_code, response)
        if isinstance(response, StreamingResponse):
            observation.is_stream = True
            response = ObservedStream(
                observed(response.body_iterator, observation),
                response.status_code,
                dict(response.headers),
                lambda: self._log.add(routed.decision),
            )
        else:
            observation.add(bytes(response.body))
            observation.end(is_whole=True)
            if response.status_code == CLIENT_CLOSED_REQUEST:
                routed.decision.side = "none"
            self._log.add(routed.decision)
        _mark_decision(routed, response)
        return response


T = TypeVar("T")


async def _while_connected(request: Request, work: Awaitable[T]) -> T | None:
    """Await `work`; end it and return None once the caller has closed its connection.

    Half of what a group of tasks with its scope would cost each request.
    """
    is_gone = asyncio.timeout(None)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        is_gone.reschedule(0)

    watcher = asyncio.create_task(watch())
    try:
        async with is_gone:
            return await work
    except TimeoutError:
        if not is_gone.expired():
            raise
        return None
    finally:
        watcher.cancel()


def _sides(route: ModelRouteRow, first: Side) -> list[Side]:
    """Return the sides that may answer, in order."""
    second: Side = "local" if first == "upstream" else "upstream"
    has_second = route.upstream is not None if second == "upstream" else route.target is not None
    return [first, second] if route.fallback and has_second else [first]


def _upstream_failed(route: ModelRouteRow, failure: ServiceFailedError) -> _SideFailedError:
    answer = failure.answer
    if answer is not None:
        shown: Response | Exception = Response(answer.body, answer.status, answer.headers)
    else:
        shown = ApiError(
            HTTPStatus.BAD_GATEWAY,
            f"The other service {route.upstream!r}, to which {route.name!r} leads, has no answer: "
            f"{failure.reason}.",
            code="upstream_failed",
        )
    return _SideFailedError(failure.reason, failure.status, shown)


def _too_slow(limit: float) -> ApiError:
    return ApiError(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"The model behind this name did not begin to answer within {limit:g} s.",
        code="model_timeout",
    )


def _local_failed(observation: Observation, error: Exception) -> _SideFailedError:
    status = error.status if isinstance(error, ApiError) else HTTPStatus.INTERNAL_SERVER_ERROR
    reason = error.message if isinstance(error, ApiError) else type(error).__name__
    observation.fail(reason, 0 if status == HTTPStatus.GATEWAY_TIMEOUT else status)
    return _SideFailedError(reason, status, error)


def _is_own_failure(error: ApiError | RequestError, answer: ApiError) -> bool:
    """Return whether an error says that the model here cannot answer what the other one may."""
    is_missing = isinstance(error, ModelError)
    is_failure = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_failure or is_missing or answer.code == _UNSUPPORTED


def _mark_decision(routed: _Routed, response: Response) -> None:
    decision = routed.decision
    _mark(routed.request, response, routed.route, decision.side, is_fallback=decision.fallback)


def _mark(
    request: Request, response: Response, route: ModelRouteRow, side: str, *, is_fallback: bool
) -> None:
    """Say in the answer and in the log who has answered."""
    answered_by = route.target if side == "local" else route.upstream
    response.headers["x-tunesmith-side"] = side
    if side == "local" and route.target is not None:
        response.headers["x-tunesmith-model"] = _ascii(route.target)
    fields: dict[str, Any] = request.scope.setdefault("log_fields", {})
    fields |= {
        "model": route.name,
        "answered_by": answered_by if side != "none" else None,
        "stage": route.stage,
        "side": side,
        "fallback": is_fallback,
    }


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
