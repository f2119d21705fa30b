"""Names that lead to models: the routes of an engine, and how requests to them were answered."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = [
    "ModelRoute",
    "ModelRouteDeleted",
    "RouteAgreement",
    "RouteCurvePoint",
    "RouteDecision",
    "RouteSide",
]


class ModelRoute(WireModel):
    """A name that leads to a model of the engine, or between it and another service.

    Attributes:
        id: The name, exactly as requests spell it.
        target: The model that stands behind it; null as long as only the other service answers.
        upstream: The other service, by its name in the engine's settings; null for a mere alias.
        stage: Who answers: "upstream", "mirror", "percentage" or "local".
        percentage: Share of the requests that the target answers in the stage "percentage".
        sticky_by: What keeps to one side: "user", "conversation" or "request".
        fallback: Whether the other side answers when the one whose turn it is fails.
        timeout_seconds: How long a side may take until its answer begins.
        keep_contents: Whether requests and answers are kept with the decisions.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "stage", "target", "upstream")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    fallback: bool = True
    keep_contents: bool = False
    object: Literal["model_route"] | str = "model_route"
    percentage: float = 0.0
    stage: Literal["upstream", "mirror", "percentage", "local"] | str = "local"
    sticky_by: Literal["user", "conversation", "request"] | str = "user"
    target: str | None = None
    timeout_seconds: float = 120.0
    updated_at: int = 0
    upstream: str | None = None


class ModelRouteDeleted(WireModel):
    """The answer to a deletion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    deleted: bool = True
    object: Literal["model_route"] | str = "model_route"


class RouteSide(WireModel):
    """What one side did with a request.

    Attributes:
        status: Its HTTP status; 0 if it could not be reached or took too long.
        seconds: Until its whole answer.
        first_byte_seconds: Until its answer began.
        finish_reasons: Of each choice.
        usage: Tokens, as the answer gives them; null if it does not.
        error: Why it failed, in a few words.
        content: The answer; only where the route keeps contents.
    """

    status: int = 0
    content: str | None = None
    error: str | None = None
    finish_reasons: list[str] | None = None
    first_byte_seconds: float | None = None
    seconds: float | None = None
    usage: dict[str, Any] | None = None


class RouteAgreement(WireModel):
    """How two answers to one request agree.

    Attributes:
        text: Whether they are equal.
        normalized: The same without case, spaces and punctuation at the ends.
        calls: Whether both call the same tools with the same arguments; null without calls.
        label: Whether two short answers are the same class; null for longer ones.
    """

    calls: bool | None = None
    label: bool | None = None
    normalized: bool = False
    text: bool = False


class RouteDecision(WireModel):
    """How one request to a name with a route was answered.

    Attributes:
        model: The name asked for.
        side: Whose answer the caller got: "upstream", "local", or "none".
        fallback: Whether that is the side whose turn it was not.
        mirror: What became of the answer beside: "compared", "failed" or "dropped"; null without.
        request: The request's body; only where the route keeps contents.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("created_at", "model", "stage", "side", "mirror")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    agreement: RouteAgreement | None = None
    created_at: float = 0.0
    fallback: bool = False
    local: RouteSide | None = None
    mirror: Literal["compared", "failed", "dropped"] | str | None = None
    model: str = ""
    object: Literal["model_route.decision"] | str = "model_route.decision"
    request: str | None = None
    request_id: str | None = None
    side: Literal["upstream", "local", "none"] | str = "none"
    stage: str = ""
    stream: bool = False
    target: str | None = None
    upstream: RouteSide | None = None


class RouteCurvePoint(WireModel):
    """What happened to the requests of one span of time.

    Attributes:
        created_at: Its beginning, in Unix seconds.
        seconds: Its length.
        requests: How many there were; of them `upstream` and `local` were answered by these.
        fallbacks: How many the other side answered.
        failures: How many nobody answered.
        compared: How many have both answers, of which `same_text` and `same_normalized` agree;
            `with_calls` and `with_label` say how many have calls, and are classes.
        dropped: How many were to be compared and were not, because too many waited.
        upstream_seconds: Mean time of the other service's answers.
        local_seconds: The same of the target.
    """

    compared: int = 0
    created_at: int = 0
    dropped: int = 0
    failures: int = 0
    fallbacks: int = 0
    local: int = 0
    local_seconds: float | None = None
    object: Literal["model_route.point"] | str = "model_route.point"
    requests: int = 0
    same_calls: int = 0
    same_label: int = 0
    same_normalized: int = 0
    same_text: int = 0
    seconds: int = 0
    upstream: int = 0
    upstream_seconds: float | None = None
    with_calls: int = 0
    with_label: int = 0


set_public_module(globals(), "tunesmith.types")
