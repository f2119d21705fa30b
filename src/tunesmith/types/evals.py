"""Evals, `/v1/evals`: tests of a model, their runs, and what each item of a run came to."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = [
    "Eval",
    "EvalRun",
    "EvalRunError",
    "EvalRunModelUsage",
    "EvalRunOutputItem",
    "EvalRunOutputItemResult",
    "EvalRunResultCounts",
    "EvalRunTestingCriteriaResult",
]


class Eval(WireModel):
    """A test: where its items come from, and the graders that judge the answers.

    Attributes:
        id: "eval_…".
        data_source_config: `type` "custom", "logs" or "stored_completions", and its fields.
        testing_criteria: The graders, as they were sent.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "name", "created_at")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    data_source_config: dict[str, Any] = Field(default_factory=dict[str, Any])
    metadata: dict[str, str] | None = None
    name: str = ""
    object: Literal["eval"] | str = "eval"
    testing_criteria: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


class EvalRunError(WireModel):
    """What went wrong in a run or with an item; both fields empty where nothing did."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    code: str = ""
    message: str = ""


class EvalRunModelUsage(WireModel):
    """The tokens that one model used in a run."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    cached_tokens: int = 0
    completion_tokens: int = 0
    invocation_count: int = 0
    model_name: str = ""
    prompt_tokens: int = 0
    total_tokens: int = 0


class EvalRunTestingCriteriaResult(WireModel):
    """How many items passed one grader."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    failed: int = 0
    passed: int = 0
    testing_criteria: str = ""


class EvalRunResultCounts(WireModel):
    """How many items passed, failed and could not be judged."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    errored: int = 0
    failed: int = 0
    passed: int = 0
    total: int = 0


class EvalRun(WireModel):
    """One run of a test with a model.

    Attributes:
        id: "evalrun_…".
        data_source: `type` "jsonl" (rows or a file id), "completions" or "responses".
        model: The model that was tested, if one answered.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "status", "model", "created_at")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    data_source: dict[str, Any] = Field(default_factory=dict[str, Any])
    error: EvalRunError | None = None
    eval_id: str = ""
    metadata: dict[str, str] | None = None
    model: str | None = None
    name: str = ""
    object: Literal["eval.run"] | str = "eval.run"
    per_model_usage: list[EvalRunModelUsage] | None = None
    per_testing_criteria_results: list[EvalRunTestingCriteriaResult] | None = None
    report_url: str = ""
    result_counts: EvalRunResultCounts | None = None
    status: Literal["queued", "in_progress", "completed", "canceled", "failed"] | str = ""


class EvalRunOutputItemResult(WireModel):
    """What one grader said of an item."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"score"})

    name: str = ""
    passed: bool = False
    score: float
    sample: dict[str, Any] | None = None
    type: str | None = None


class EvalRunOutputItem(WireModel):
    """One item of a run: the data, the answer, the graders' results.

    Attributes:
        datasource_item: The row of the data source.
        sample: `input` and `output` messages, `model`, `seed`, `usage`, `finish_reason`, ….
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "status", "datasource_item_id")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    datasource_item: dict[str, Any] = Field(default_factory=dict[str, Any])
    datasource_item_id: int = 0
    eval_id: str = ""
    object: Literal["eval.run.output_item"] | str = "eval.run.output_item"
    results: list[EvalRunOutputItemResult] = Field(default_factory=list[EvalRunOutputItemResult])
    run_id: str = ""
    sample: dict[str, Any] | None = None
    status: str = ""


set_public_module(globals(), "tunesmith.types")
