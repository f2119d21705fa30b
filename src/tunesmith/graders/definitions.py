"""What a grader is: its fields as the wire contract publishes them, checked before anything runs.

A definition that passes here can be run: its templates name what exists, its formula has a meaning.
Knows neither samples nor models.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from tunesmith.errors import TunesmithError

from .formula import Formula, FormulaError
from .templates import Template, TemplateError

__all__ = [
    "Grader",
    "GraderError",
    "JudgeMessage",
    "LabelModelGrader",
    "MultiGrader",
    "PythonGrader",
    "SamplingParams",
    "ScoreModelGrader",
    "SingleGrader",
    "StringCheckGrader",
    "TextMetric",
    "TextSimilarityGrader",
    "parse_grader",
]

MAX_GRADERS = 32
MAX_SOURCE_BYTES = 256 * 1024

TextMetric: TypeAlias = Literal[
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


class GraderError(TunesmithError):
    """A grader that cannot run as it is defined.

    Args:
        message: What is wrong, and what would be right.
        param: The field, such as "grader.graders.a.input".
    """

    def __init__(self, message: str, param: str = "grader") -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def __reduce__(self) -> tuple[type[GraderError], tuple[str, str]]:
        return type(self), (self.message, self.param)


class _Definition(BaseModel):
    """The fields of every grader."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, Field(max_length=512)] = ""


_Threshold = Annotated[float, Field(allow_inf_nan=False)]


class StringCheckGrader(_Definition):
    """1 if `input` and `reference` compare as `operation` says, else 0.

    Attributes:
        operation: "eq" and "ne" (also "neq") compare whole texts; "like" asks whether the input
            contains the reference, "ilike" the same regardless of case.
    """

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "neq", "like", "ilike"]


class TextSimilarityGrader(_Definition):
    """How similar `input` is to `reference`, 0 to 1, by one of the metrics.

    Attributes:
        pass_threshold: The least similarity that passes; evals have it, fine-tuning does not.
    """

    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: TextMetric
    pass_threshold: _Threshold | None = None


class SamplingParams(BaseModel):
    """How the judge's answer is sampled; what is None is left to the server."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)

    seed: int | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: str | None = None


_TEXT_PARTS = frozenset({"input_text", "output_text", "text"})


def _joined(value: Any) -> Any:
    """Return a message's content as one text; parts may stand alone or in a list."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    texts = [_part_text(part) for part in parts]
    return "".join(texts)


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    fields: dict[str, Any] = part if isinstance(part, dict) else {}
    kind, text = fields.get("type"), fields.get("text")
    if kind in _TEXT_PARTS and isinstance(text, str):
        return text
    shown = f"{kind!r:.40}" if isinstance(kind, str) else type(part).__name__
    raise ValueError(
        'content must be a text, or parts {"type": "input_text", "text": …}; judges read text '
        f"only, not {shown}"
    )


class JudgeMessage(BaseModel):
    """A message to the judge; its content may hold templates."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined)]
    type: Literal["message"] | None = None


_Messages = Annotated[list[JudgeMessage], Field(min_length=1, max_length=256)]
_Model = Annotated[str, Field(min_length=1, max_length=255)]


class ScoreModelGrader(_Definition):
    """A number that a model gives, within `range`."""

    type: Literal["score_model"]
    model: _Model
    input: _Messages
    range: Annotated[list[_Threshold], Field(min_length=2, max_length=2)] | None = None
    sampling_params: SamplingParams | None = None
    pass_threshold: _Threshold | None = None

    @property
    def lowest(self) -> float:
        """The least score."""
        return 0.0 if self.range is None else float(self.range[0])

    @property
    def highest(self) -> float:
        """The highest score."""
        return 1.0 if self.range is None else float(self.range[1])


class LabelModelGrader(_Definition):
    """1 if the label that a model chooses is among the passing ones, else 0."""

    type: Literal["label_model"]
    model: _Model
    input: _Messages
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]],
        Field(min_length=1, max_length=256),
    ]
    passing_labels: Annotated[list[str], Field(min_length=1)]
    sampling_params: SamplingParams | None = None


class PythonGrader(_Definition):
    """The number that the function `grade(sample, item)` of a source text returns."""

    type: Literal["python"]
    source: Annotated[str, Field(min_length=1)]
    image_tag: str | None = None


SingleGrader: TypeAlias = (
    StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | PythonGrader
)


def _by_name(value: Any) -> Any:
    """Return graders by name: the contract's examples have an object, a list, and one grader."""
    if isinstance(value, dict) and isinstance(cast("dict[str, Any]", value).get("type"), str):
        value = [value]
    if not isinstance(value, list):
        return value
    named: dict[str, Any] = {}
    for number, one in enumerate(value):
        name = cast("dict[str, Any]", one).get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or not name or name in named:
            raise ValueError(
                f"each grader in a list needs a name of its own, by which calculate_output refers "
                f"to it; number {number + 1} has {'none' if not name else 'one that is taken'}"
            )
        named[name] = one
    return named


class MultiGrader(_Definition):
    """Several graders' results combined by a formula.

    Attributes:
        graders: By the name that the formula uses.
        calculate_output: Numbers, names, + - * / ^, parentheses, and the functions min, max,
            abs, floor, ceil, exp, sqrt and log.
    """

    type: Literal["multi"]
    graders: Annotated[
        dict[str, Annotated[SingleGrader, Field(discriminator="type")]],
        BeforeValidator(_by_name),
        Field(min_length=1, max_length=MAX_GRADERS),
    ]
    calculate_output: str


Grader: TypeAlias = SingleGrader | MultiGrader

_ADAPTER: TypeAdapter[Grader] = TypeAdapter(Annotated[Grader, Field(discriminator="type")])
_TYPES = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi")


def parse_grader(definition: Any) -> Grader:
    """Return the grader that a definition describes.

    Args:
        definition: An object as the API takes it: `{"type": "string_check", …}`.

    Raises:
        GraderError: It cannot run; the error names the field.
    """
    try:
        grader = _ADAPTER.validate_python(definition)
    except ValidationError as error:
        raise _first_fault(error) from None
    if isinstance(grader, MultiGrader):
        for key, one in grader.graders.items():
            _check(one, f"grader.graders.{key}")
        try:
            Formula.parse(grader.calculate_output).check_names(grader.graders)
        except FormulaError as error:
            raise GraderError(f"calculate_output: {error}", "grader.calculate_output") from None
    else:
        _check(grader, "grader")
    return grader


def _check(grader: SingleGrader, path: str) -> None:
    """Raise GraderError for what the types of the fields do not say."""
    if isinstance(grader, StringCheckGrader | TextSimilarityGrader):
        _check_template(grader.input, f"{path}.input")
        _check_template(grader.reference, f"{path}.reference")
    elif isinstance(grader, ScoreModelGrader | LabelModelGrader):
        for number, message in enumerate(grader.input):
            _check_template(message.content, f"{path}.input[{number}].content")
        if isinstance(grader, ScoreModelGrader):
            _check_range(grader, path)
        else:
            _check_labels(grader, path)
    elif len(grader.source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        raise GraderError(f"source has more than {MAX_SOURCE_BYTES} bytes.", f"{path}.source")


def _check_template(text: str, path: str) -> None:
    try:
        Template.parse(text)
    except TemplateError as error:
        raise GraderError(f"{path.removeprefix('grader.')}: {error}", path) from None


def _check_range(grader: ScoreModelGrader, path: str) -> None:
    if not grader.lowest < grader.highest or math.isinf(grader.highest - grader.lowest):
        raise GraderError(
            f"range is {grader.range}; it must be the least and the highest score, such as [0, 1].",
            f"{path}.range",
        )


def _check_labels(grader: LabelModelGrader, path: str) -> None:
    if len(set(grader.labels)) != len(grader.labels):
        raise GraderError("labels has a label twice.", f"{path}.labels")
    unknown = [label for label in grader.passing_labels if label not in grader.labels]
    if unknown:
        raise GraderError(
            f"passing_labels has {unknown[0]!r:.80}, which is not in labels.",
            f"{path}.passing_labels",
        )


def _first_fault(error: ValidationError) -> GraderError:
    fault = error.errors(include_url=False)[0]
    # The names of the types that were tried stand among the fields' names.
    parts = [str(part) for part in fault["loc"] if part not in _TYPES]
    path = "grader" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)
    shown = path.removeprefix("grader.")
    kind = fault["type"]
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        single = len(parts) > 0
        known = ", ".join(one for one in _TYPES if not (single and one == "multi"))
        where = "A grader inside a multi grader" if single else "A grader"
        return GraderError(f"{where} needs a type, one of: {known}.", f"{path}.type")
    if kind == "missing":
        return GraderError(f"The grader's {shown} is missing.", path)
    if kind == "extra_forbidden":
        return GraderError(f"{shown} is no field of such a grader. Remove it.", path)
    message = fault["msg"].removeprefix("Value error, ")
    return GraderError(f"{shown}: {message[:1].lower()}{message[1:]}.", path)
