"""`/v1/fine_tuning/alpha/graders`: run a grader on one sample, or check its definition.

Judges are models of this engine; their answers follow a schema, so a score is a number within its
range and a label one of the grader's. Source code runs in a sandbox, if the settings allow it.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.domain.json_values import find_json_fault
from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.graders import (
    Failure,
    Grader,
    GraderError,
    Grading,
    JudgeAnswer,
    JudgeRequest,
    PythonRun,
    PythonSandbox,
    parse_grader,
    sample_of,
)
from tunesmith.graders.definitions import (
    LabelModelGrader,
    MultiGrader,
    PythonGrader,
    ScoreModelGrader,
)
from tunesmith.graders.python_sandbox import SandboxUnavailableError

from .chat_requests import MAX_DEPTH, ChatBody
from .dependencies import CurrentKey, get_services
from .generation_responses import (
    CLIENT_CLOSED_REQUEST,
    cancel_on_disconnect,
    generate,
    generation_failure,
    resolve_model,
    usage_object,
)
from .http_errors import ApiError, as_api_error, invalid
from .keyed_route import KeyedRoute

if TYPE_CHECKING:
    from tunesmith.engine.serving.generation import GenerationDelta
    from tunesmith.graders.grading import Outcome

__all__ = ["router"]

router: APIRouter = APIRouter(
    prefix="/v1/fine_tuning/alpha/graders", tags=["graders"], route_class=KeyedRoute
)

_JUDGE_TOKENS = 256
_AT_ONCE = anyio.CapacityLimiter(2)  # comparisons and sandboxes, each of which fills a core
_TRY_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_PYTHON_OFF = (
    "Python graders bring code of their own, which this engine is set not to run. Its operator "
    "can allow it with enabled = true in the table [python_graders] of engine.toml."
)


class ValidateGrader(BaseModel):
    """The body of a request to check a grader."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    grader: dict[str, Any]


class RunGrader(ValidateGrader):
    """The body of a request to run a grader."""

    model_sample: Annotated[
        str | dict[str, Any],
        Field(
            description="The answer to grade: its text; or, which the hosted service does not "
            "take, an assistant's message or a whole chat completion, for graders of tool calls."
        ),
    ]
    item: dict[str, Any] | None = None


@router.post("/validate", summary="Check a grader")
async def validate_grader(request: Request, key: CurrentKey, body: ValidateGrader) -> JSONResponse:
    """Return the grader if it could run here: its templates, formula, judges and source code."""
    await _checked(request, body, key.organization)
    return JSONResponse({"grader": body.grader})


@router.post("/run", summary="Run a grader")
async def run_grader(request: Request, key: CurrentKey, body: RunGrader) -> Response:
    """Score a sample. What goes wrong is told by `metadata.errors`, with a reward of 0."""
    began = time.monotonic()
    _check_json(body, "model_sample", "item")
    grader = await _checked(request, body, key.organization)
    grading = Grading(grader, sample_of(body.model_sample), body.item)
    outcomes = await _ask_all(request, grading, key.organization)
    if outcomes is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    try:
        result = await anyio.to_thread.run_sync(grading.conclude, outcomes, limiter=_AT_ONCE)
    except GraderError as error:
        raise invalid(error.message, param=error.param) from None
    return JSONResponse(result.to_wire(time.monotonic() - began))


def _check_json(body: BaseModel, *names: str) -> None:
    """Raise ApiError for a field that could not be written as JSON again."""
    for name in names:
        fault = find_json_fault(getattr(body, name), MAX_DEPTH)
        if fault is not None:
            raise invalid(f"{name} cannot be graded: {fault}.", param=name)


async def _ask_all(
    request: Request, grading: Grading, organization: str
) -> dict[str, Outcome] | None:
    """Return the outcomes of a grading's tasks, all asked at once; None if the client has gone.

    Raises:
        ApiError: One of them may be asked again later.
    """
    outcomes: dict[str, Outcome] = {}
    failures: list[ApiError] = []
    is_complete = False

    async def ask(name: str) -> None:
        task = grading.tasks[name]
        try:
            if isinstance(task, JudgeRequest):
                outcomes[name] = await _judge(request, task, organization)
            else:
                outcomes[name] = await _run_python(request, task)
        except RequestError as error:
            failures.append(as_api_error(error))
        except ApiError as error:
            failures.append(error)

    async with anyio.create_task_group() as outer:
        outer.start_soon(cancel_on_disconnect, request, outer.cancel_scope)
        async with anyio.create_task_group() as tasks:
            for name in grading.tasks:
                tasks.start_soon(ask, name)
        is_complete = True
        outer.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return outcomes if is_complete else None


async def _checked(request: Request, body: ValidateGrader, organization: str) -> Grader:
    """Return the grader of a request.

    Raises:
        ApiError: 400: it cannot run.
        UnknownModelError: The engine has no model of a judge's name.
    """
    _check_json(body, "grader")
    try:
        grader = await anyio.to_thread.run_sync(parse_grader, body.grader)
        parts = grader.graders.values() if isinstance(grader, MultiGrader) else (grader,)
        for part in parts:
            if isinstance(part, ScoreModelGrader | LabelModelGrader):
                await resolve_model(request, part.model, organization)
                _check_sampling(part)
            elif isinstance(part, PythonGrader):
                sandbox = _sandbox(request)
                await anyio.to_thread.run_sync(sandbox.check, part.source, limiter=_AT_ONCE)
    except SandboxUnavailableError as error:
        raise ApiError(
            HTTPStatus.NOT_IMPLEMENTED, error.message, code="sandbox_unavailable"
        ) from None
    except GraderError as error:
        raise invalid(error.message, param=error.param, code="invalid_grader") from None
    return grader


def _sandbox(request: Request) -> PythonSandbox:
    settings = get_services(request).config.python_graders
    if not settings.enabled:
        raise invalid(_PYTHON_OFF, param="grader.type", code="python_graders_off")
    return PythonSandbox(settings.seconds, settings.memory_bytes)


async def _run_python(request: Request, task: PythonRun) -> Outcome:
    return await anyio.to_thread.run_sync(_sandbox(request).run, task, limiter=_AT_ONCE)


async def _judge(request: Request, task: JudgeRequest, organization: str) -> Outcome:
    """Ask a model of this engine.

    Raises:
        ApiError: 429 or 503: the engine is too busy for the question; it may be asked again.
    """
    model = await resolve_model(request, task.model, organization)
    body = _chat_body(task)
    deltas: list[GenerationDelta] = []
    try:
        deltas.extend([one async for one in generate(request, model, body.to_generation())])
    except GenerationError as error:
        failure = generation_failure(error)
        if failure.status in _TRY_LATER:
            raise failure from None
        return Failure(f"The judge {task.model} failed: {error.message}")
    except ApiError as error:
        return Failure(f"The judge {task.model} cannot be asked: {error.message}")
    usage = next((usage_object(delta) for delta in deltas if delta.usage is not None), {})
    return JudgeAnswer("".join(delta.text for delta in deltas), usage)


def _check_sampling(part: ScoreModelGrader | LabelModelGrader) -> None:
    """Raise ApiError for a sampling that the models here do not have."""
    if part.sampling_params is not None and part.sampling_params.reasoning_effort is not None:
        raise invalid(
            "sampling_params.reasoning_effort: the models here have no such setting. Remove it.",
            param="grader.sampling_params.reasoning_effort",
        )


def _chat_body(task: JudgeRequest) -> ChatBody:
    sampling = dict(task.sampling)
    most = sampling.pop("max_completions_tokens", _JUDGE_TOKENS)
    return ChatBody.model_validate(
        {
            "model": task.model,
            "messages": task.messages,
            "max_completion_tokens": most,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "judgement", "schema": task.schema},
            },
            **sampling,
        }
    )
