"""One sample graded, without doing any work that waits.

A `Grading` says what has to be asked: judges for their answers, a sandbox for the result of source
code. Who drives it asks them, in whatever way and as many at a time as it likes, and hands the
outcomes to `conclude`. So the same code serves an HTTP route, a blocking client and an async one.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeAlias, cast

from .definitions import (
    Grader,
    GraderError,
    LabelModelGrader,
    MultiGrader,
    PythonGrader,
    ScoreModelGrader,
    SingleGrader,
    StringCheckGrader,
    TextSimilarityGrader,
    parse_grader,
)
from .formula import Formula, FormulaError
from .templates import MissingVariableError, Template
from .text_metrics import similarity

__all__ = [
    "Failure",
    "Grading",
    "GradingErrors",
    "GradingResult",
    "JudgeAnswer",
    "JudgeRequest",
    "Outcome",
    "PythonRun",
    "PythonValue",
    "Task",
    "grade",
    "sample_of",
]


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A question to a model.

    Attributes:
        model: The judge.
        messages: With roles and texts, templates filled in.
        schema: The JSON schema that the answer must follow.
        sampling: What the grader says of temperature, top_p, seed, max_completions_tokens and
            reasoning_effort; what it leaves open is absent.
    """

    model: str
    messages: list[dict[str, str]]
    schema: dict[str, Any]
    sampling: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PythonRun:
    """Source code whose function `grade(sample, item)` is to be called in a sandbox."""

    source: str
    sample: dict[str, Any]
    item: Any


@dataclass(frozen=True, slots=True)
class JudgeAnswer:
    """What a judge answered.

    Attributes:
        text: The answer, JSON by the request's schema.
        usage: Its tokens: `prompt_tokens`, `completion_tokens`, `total_tokens`.
        is_refusal: Whether the judge refused; `text` is then its reason.
    """

    text: str
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    is_refusal: bool = False


@dataclass(frozen=True, slots=True)
class PythonValue:
    """What the function returned."""

    value: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that has no outcome.

    Attributes:
        message: Why.
        kind: "server" if what runs the task failed, "runtime" if the source code did.
    """

    message: str
    kind: str = "server"


Task: TypeAlias = JudgeRequest | PythonRun
Outcome: TypeAlias = JudgeAnswer | PythonValue | Failure


@dataclass(slots=True)
class GradingErrors:
    """What went wrong, by the names of the wire contract."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def add(self, other: GradingErrors) -> None:
        """Take over another's errors."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) or getattr(other, one.name))


@dataclass(frozen=True, slots=True)
class GradingResult:
    """A sample's score.

    Attributes:
        reward: The score; 0 where the errors say why there is none.
        passed: Whether the sample passes, None where the grader has no threshold.
        errors: What went wrong.
        sub_rewards: The scores of a multi grader's graders.
        usage_per_model: The tokens that judges used, by model.
        judge: The only judge's name, None for none or several.
        explanation: Why there is no score, in a sentence; None if there is one.
    """

    name: str
    type: str
    reward: float
    passed: bool | None = None
    errors: GradingErrors = field(default_factory=GradingErrors)
    sub_rewards: dict[str, float] = field(default_factory=dict[str, float])
    usage_per_model: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    explanation: str | None = None

    @property
    def judge(self) -> str | None:
        """The only judge's name; None for none or several."""
        return next(iter(self.usage_per_model)) if len(self.usage_per_model) == 1 else None

    def to_wire(self, execution_time: float) -> dict[str, Any]:
        """Return the object that the API answers with.

        Args:
            execution_time: Seconds that grading took.
        """
        tokens = sum(usage.get("total_tokens", 0) for usage in self.usage_per_model.values())
        return {
            "reward": self.reward,
            "metadata": {
                "name": self.name,
                "type": self.type,
                "errors": asdict(self.errors),
                "execution_time": execution_time,
                "scores": dict(self.sub_rewards),
                "token_usage": tokens if self.usage_per_model else None,
                "sampled_model_name": self.judge,
            },
            "sub_rewards": dict(self.sub_rewards),
            "model_grader_token_usage_per_model": dict(self.usage_per_model),
        }


class _NoScoreError(Exception):
    """Ends a grader's part with an error of the contract.

    Args:
        name: The field of `GradingErrors`.
        details: Why, in a sentence.
    """

    def __init__(self, name: str, details: str) -> None:
        super().__init__(details)
        self.name = name
        self.details = details


class Grading:
    """The grading of one sample.

    Args:
        grader: From `parse_grader`.
        sample: From `sample_of`.
        item: The data row that templates refer to.

    Attributes:
        tasks: What has to be asked first, by a key that `conclude` takes the outcomes under.
    """

    def __init__(self, grader: Grader, sample: Mapping[str, Any], item: Any = None) -> None:
        self._grader = grader
        self._sample = dict(sample)
        self._item: Any = {} if item is None else item
        self._parts: dict[str, SingleGrader] = (
            dict(grader.graders) if isinstance(grader, MultiGrader) else {"": grader}
        )
        self._faults: dict[str, _NoScoreError] = {}
        self.tasks: dict[str, Task] = {}
        for key, part in self._parts.items():
            try:
                task = self._task(part)
            except _NoScoreError as fault:
                self._faults[key] = fault
                continue
            if task is not None:
                self.tasks[key] = task

    def conclude(self, outcomes: Mapping[str, Outcome]) -> GradingResult:
        """Return the result. Takes time for long texts: call it beside an event loop.

        Args:
            outcomes: One for each of `tasks`.

        Raises:
            GraderError: A text is too long for its metric, or the metric's library is not
                installed.
        """
        results = {
            key: self._concluded(key, part, outcomes.get(key)) for key, part in self._parts.items()
        }
        if not isinstance(self._grader, MultiGrader):
            return results[""]
        errors = GradingErrors()
        usage: dict[str, dict[str, int]] = {}
        for result in results.values():
            errors.add(result.errors)
            for model, tokens in result.usage_per_model.items():
                known = usage.setdefault(model, {})
                for name, count in tokens.items():
                    known[name] = known.get(name, 0) + count
        rewards = {key: result.reward for key, result in results.items()}
        notes = [f"{key}: {one.explanation}" for key, one in results.items() if one.explanation]
        reward = 0.0
        try:
            reward = Formula.parse(self._grader.calculate_output).value(rewards)
        except FormulaError as error:
            errors.formula_parse_error = True
            notes.append(f"calculate_output: {error}")
        return GradingResult(
            name=self._grader.name,
            type="multi",
            reward=reward,
            errors=errors,
            sub_rewards=rewards,
            usage_per_model=usage,
            explanation=" ".join(notes) or None,
        )

    def _task(self, part: SingleGrader) -> Task | None:
        if isinstance(part, PythonGrader):
            return PythonRun(part.source, self._sample, self._item)
        if not isinstance(part, ScoreModelGrader | LabelModelGrader):
            return None
        sampling = {} if part.sampling_params is None else part.sampling_params.model_dump()
        return JudgeRequest(
            model=part.model,
            messages=[
                {"role": message.role, "content": self._rendered(message.content)}
                for message in part.input
            ],
            schema=_answer_schema(part),
            sampling={name: value for name, value in sampling.items() if value is not None},
        )

    def _concluded(self, key: str, part: SingleGrader, outcome: Outcome | None) -> GradingResult:
        errors = GradingErrors()
        usage: dict[str, dict[str, int]] = {}
        if isinstance(outcome, JudgeAnswer) and isinstance(self.tasks[key], JudgeRequest):
            usage[cast("JudgeRequest", self.tasks[key]).model] = dict(outcome.usage)
        explanation = None
        reward = 0.0
        try:
            if key in self._faults:
                raise self._faults[key]
            reward = self._score(part, outcome)
        except _NoScoreError as fault:
            explanation = fault.details
            setattr(errors, fault.name, True)
            if fault.name == "model_grader_server_error":
                errors.model_grader_server_error_details = explanation
            if fault.name == "python_grader_runtime_error":
                errors.python_grader_runtime_error_details = explanation
            if fault.name == "python_grader_server_error":
                errors.python_grader_server_error_type = explanation
        return GradingResult(
            name=part.name,
            type=part.type,
            reward=reward,
            passed=None if explanation else _passed(part, reward),
            errors=errors,
            usage_per_model=usage,
            explanation=explanation,
        )

    def _score(self, part: SingleGrader, outcome: Outcome | None) -> float:
        if isinstance(part, StringCheckGrader):
            text, reference = self._rendered(part.input), self._rendered(part.reference)
            return float(_OPERATIONS[part.operation](text, reference))
        if isinstance(part, TextSimilarityGrader):
            text, reference = self._rendered(part.input), self._rendered(part.reference)
            return similarity(part.evaluation_metric, text, reference)
        if isinstance(part, PythonGrader):
            return _python_score(outcome)
        result = _judged(outcome)
        if isinstance(part, LabelModelGrader):
            if result not in part.labels:
                raise _NoScoreError("model_grader_parse_error", "The judge chose no label.")
            return float(result in part.passing_labels)
        if isinstance(result, bool) or not isinstance(result, int | float):
            raise _NoScoreError("model_grader_parse_error", "The judge gave no number.")
        if math.isnan(result):
            raise _NoScoreError("model_grader_parse_error", "The judge gave no number.")
        return float(min(max(result, part.lowest), part.highest))

    def _rendered(self, text: str) -> str:
        try:
            return Template.parse(text).render(self._sample, self._item)
        except MissingVariableError as error:
            if error.path.startswith("sample.output_json") and "output_json" not in self._sample:
                raise _NoScoreError(
                    "sample_parse_error", f"{error.path}: the sample is no JSON."
                ) from None
            raise _NoScoreError(
                "invalid_variable_error", f"There is no {error.path:.200}."
            ) from None


def sample_of(answer: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return what templates and source code find as `sample`.

    Args:
        answer: The text that a model answered, an assistant's message, or a whole chat
            completion: `output_tools` and `choices` are as full as what is given.
    """
    if isinstance(answer, str):
        answer = {"role": "assistant", "content": answer}
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        choices = [{"index": 0, "message": dict(answer), "finish_reason": "stop"}]
    first: Any = choices[0]
    message: Any = cast("Mapping[str, Any]", first).get("message") if _is_object(first) else None
    message = cast("Mapping[str, Any]", message) if _is_object(message) else {}
    text = message.get("content")
    sample: dict[str, Any] = {
        "choices": choices,
        "output_text": text if isinstance(text, str) else "",
        "output_tools": message.get("tool_calls") or [],
    }
    with contextlib.suppress(ValueError, RecursionError):  # only an answer that is JSON has it
        sample["output_json"] = json.loads(sample["output_text"])
    return sample


def grade(
    grader: Grader | Mapping[str, Any],
    answer: str | Mapping[str, Any],
    item: Any = None,
    *,
    judge: Callable[[JudgeRequest], JudgeAnswer | Failure] | None = None,
    run_python: Callable[[PythonRun], PythonValue | Failure] | None = None,
) -> GradingResult:
    """Grade one sample, asking one after the other.

    Args:
        grader: A definition, or what `parse_grader` made of it.
        answer: What is graded, as for `sample_of`.
        item: The data row that templates refer to.
        judge: Asks a model; without it graders that need one are refused.
        run_python: Runs source code, such as `PythonSandbox.run`; without it python graders are
            refused.

    Raises:
        GraderError: The grader cannot run.
    """
    if isinstance(grader, Mapping):
        grader = parse_grader(dict(grader))
    grading = Grading(grader, sample_of(answer), item)
    outcomes: dict[str, Outcome] = {}
    for key, task in grading.tasks.items():
        if isinstance(task, JudgeRequest):
            if judge is None:
                raise GraderError(f"The grader asks the model {task.model}; pass judge=….")
            outcomes[key] = judge(task)
        else:
            if run_python is None:
                raise GraderError("The grader runs Python code; pass run_python=….")
            outcomes[key] = run_python(task)
    return grading.conclude(outcomes)


_OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "neq": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


def _answer_schema(part: ScoreModelGrader | LabelModelGrader) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "string", "enum": list(getattr(part, "labels", ()))}
    if isinstance(part, ScoreModelGrader):
        result = {"type": "number", "minimum": part.lowest, "maximum": part.highest}
    return {
        "type": "object",
        "properties": {"result": result},
        "required": ["result"],
        "additionalProperties": False,
    }


def _judged(outcome: Outcome | None) -> Any:
    """Return the `result` of a judge's answer; a bare value counts as one."""
    if not isinstance(outcome, JudgeAnswer):
        message = outcome.message if isinstance(outcome, Failure) else "Nobody asked the judge."
        raise _NoScoreError("model_grader_server_error", message)
    if outcome.is_refusal:
        raise _NoScoreError("model_grader_refusal_error", f"The judge refused: {outcome.text:.200}")
    try:
        found = json.loads(outcome.text)
    except (ValueError, RecursionError):
        raise _NoScoreError(
            "model_grader_parse_error", f"The judge's answer is no JSON: {outcome.text!r:.200}"
        ) from None
    return cast("dict[str, Any]", found).get("result") if isinstance(found, dict) else found


def _python_score(outcome: Outcome | None) -> float:
    if isinstance(outcome, PythonValue):
        return outcome.value
    failure = outcome if isinstance(outcome, Failure) else Failure("Nobody ran the source code.")
    name = "runtime" if failure.kind == "runtime" else "server"
    raise _NoScoreError(f"python_grader_{name}_error", failure.message)


def _passed(part: SingleGrader, reward: float) -> bool | None:
    if isinstance(part, StringCheckGrader | LabelModelGrader):
        return reward == 1
    threshold = getattr(part, "pass_threshold", None)
    return None if threshold is None else reward >= threshold


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)
