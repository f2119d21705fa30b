"""The settings of fine-tuning jobs: the one table that every place takes its names from.

`JOB_PARAMETERS` says of each setting which API has it, its type, its bounds, its default and
what it does. Request validation, the training specification, options of the command line, the
dashboard's form and the views of a job are made from it. Type checkers read class bodies, not
tables, so those of the legacy API stand below it once more for reading (`LegacyHyperparameters`)
and for calls (`LegacyOptions`); a test holds the three together. Knows neither HTTP nor torch,
and does not import pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunesmith.core.options import NotGiven, Omit

__all__ = [
    "JOB_PARAMETERS",
    "LEGACY_HYPERPARAMETERS",
    "OWN_PARAMETERS",
    "RECIPES",
    "JobAPI",
    "JobParameter",
    "LegacyHyperparameters",
    "LegacyOptions",
    "Recipe",
    "RecipeChoice",
    "job_parameter",
    "parameters_of",
]

JobAPI: TypeAlias = Literal["legacy", "jobs"]
"""The legacy API (`/v1/fine-tunes`), or the fine-tuning jobs API (`/v1/fine_tuning/jobs`)."""

Recipe: TypeAlias = Literal["fast", "lora", "qlora", "full"]
"""How a model is trained."""

RecipeChoice: TypeAlias = Literal["auto", Recipe]
"""What a job may ask for; "auto" leaves the choice to the engine."""

RECIPES: Mapping[RecipeChoice, str] = {
    "auto": "by estimated time",
    "fast": "adapters in the top layers, on cached outputs of the frozen lower layers",
    "lora": "adapters in every layer",
    "qlora": "adapters in every layer, on a base in four bits",
    "full": "all weights",
}
"""One line on each choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParameter:
    """One setting of a fine-tuning job.

    Attributes:
        name: Its name on the wire, in Python and on the command line.
        label: Its name for people.
        type: The type of its value; "floats" for a list of numbers.
        help: What it does, in one line.
        defaults: What each API that has it uses where it is left out, in words; an API that is
            not named here does not have it.
        is_hyperparameter: Whether it belongs to a method's `hyperparameters`.
        is_own: Whether only this package's engine has it: sent as `extra_body`, and taken by the
            engine in both APIs.
        auto_in: The APIs in which "auto" leaves the choice to the engine.
        method: The one training method that has it; None for all.
        minimum: The least value, or item of a list.
        above: A bound that the value, or each item, must exceed.
        maximum: The greatest value, or item of a list.
        max_length: The most characters of a text or items of a list, by API.
    """

    name: str
    label: str
    type: Literal["int", "float", "str", "bool", "floats"]
    help: str
    defaults: Mapping[JobAPI, str]
    is_hyperparameter: bool = False
    is_own: bool = False
    auto_in: frozenset[JobAPI] = frozenset()
    method: str | None = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    max_length: Mapping[JobAPI, int] = field(default_factory=dict[JobAPI, int])

    def is_within_bounds(self, value: float) -> bool:
        """Return whether a number keeps the minimum, the exclusive bound and the maximum."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
        )


JOB_PARAMETERS: tuple[JobParameter, ...] = (
    JobParameter(
        name="n_epochs",
        label="Epochs",
        type="int",
        help="passes over the training data",
        defaults={"legacy": "4", "jobs": "auto"},
        is_hyperparameter=True,
        auto_in=frozenset({"legacy", "jobs"}),
        minimum=1,
        maximum=50,
    ),
    JobParameter(
        name="batch_size",
        label="Batch size",
        type="int",
        help="examples a step",
        defaults={"legacy": "0.2 % of the data, at most 256", "jobs": "auto"},
        is_hyperparameter=True,
        auto_in=frozenset({"legacy", "jobs"}),
        minimum=1,
        maximum=256,
    ),
    JobParameter(
        name="learning_rate_multiplier",
        label="Learning rate ×",  # noqa: RUF001 - the sign is meant
        type="float",
        help="factor of the base learning rate",
        defaults={"legacy": "0.05, 0.1 or 0.2 by batch size", "jobs": "auto"},
        is_hyperparameter=True,
        auto_in=frozenset({"legacy", "jobs"}),
        above=0,
    ),
    JobParameter(
        name="prompt_loss_weight",
        label="Prompt loss weight",
        type="float",
        help="weight of the prompt's tokens in the loss",
        defaults={"legacy": "0.01", "jobs": "0"},
        is_hyperparameter=True,
        auto_in=frozenset({"jobs"}),
        minimum=0,
        maximum=1,
    ),
    JobParameter(
        name="compute_classification_metrics",
        label="Compute classification metrics on the validation file each epoch",
        type="bool",
        help="measure accuracy, F1 and so on after each epoch; needs a validation file, and the "
        "number of classes or the positive class",
        defaults={"legacy": "no"},
    ),
    JobParameter(
        name="classification_n_classes",
        label="Number of classes",
        type="int",
        help="number of classes",
        defaults={"legacy": "none"},
        minimum=2,
        maximum=10_000,
    ),
    JobParameter(
        name="classification_positive_class",
        label="Positive class, if there are two",
        type="str",
        help="the positive one of two classes, as the completion is written",
        defaults={"legacy": "none"},
        max_length={"legacy": 200},
    ),
    JobParameter(
        name="classification_betas",
        label="Betas",
        type="floats",
        help="also report F-beta for these",
        defaults={"legacy": "none"},
        above=0,
        maximum=100,
        max_length={"legacy": 10},
    ),
    JobParameter(
        name="beta",
        label="Beta",
        type="float",
        help="weight of the penalty for leaving the reference model",
        defaults={"jobs": "0.1"},
        is_hyperparameter=True,
        auto_in=frozenset({"jobs"}),
        method="dpo",
        above=0,
        maximum=2,
    ),
    JobParameter(
        name="suffix",
        label="Suffix",
        type="str",
        help="part of the new model's name",
        defaults={"legacy": "none", "jobs": "none"},
        max_length={"legacy": 40, "jobs": 64},
    ),
    JobParameter(
        name="seed",
        label="Seed",
        type="int",
        help="same seed, same order of examples",
        defaults={"jobs": "random"},
        minimum=0,
        maximum=2**31 - 1,
    ),
    JobParameter(
        name="early_stopping",
        label="Early stopping",
        type="int",
        help="end after so many epochs without a lower validation loss; needs a validation file",
        defaults={"jobs": "none"},
        is_own=True,
        minimum=1,
        maximum=50,
    ),
    JobParameter(
        name="keep_best",
        label="Keep the model of the epoch with the lowest validation loss",
        type="bool",
        help="the model is that of the epoch with the lowest validation loss, not of the last; "
        "needs a validation file",
        defaults={"jobs": "no"},
        is_own=True,
    ),
    JobParameter(
        name="train_experts",
        label="Train the experts of a mixture, too",
        type="bool",
        help="put adapters on the experts of a mixture, too (PEFT's target_parameters); slower, "
        "and with the recipe lora only",
        defaults={"jobs": "no"},
        is_own=True,
    ),
)

OWN_PARAMETERS: tuple[JobParameter, ...] = tuple(
    parameter for parameter in JOB_PARAMETERS if parameter.is_own
)
"""The settings that only this package's engine has, in both of its APIs."""

_BY_NAME = {parameter.name: parameter for parameter in JOB_PARAMETERS}


def job_parameter(name: str) -> JobParameter:
    """Return the setting of that name."""
    return _BY_NAME[name]


def parameters_of(
    api: JobAPI, *, hyperparameters: bool | None = None, method: str | None = None
) -> tuple[JobParameter, ...]:
    """Return the settings that an API has, in the order of the table.

    Args:
        api: The API.
        hyperparameters: True for hyperparameters alone, False for the others, None for both.
        method: The training method; settings of other methods are left out.
    """
    return tuple(
        parameter
        for parameter in JOB_PARAMETERS
        if api in parameter.defaults
        and hyperparameters in {None, parameter.is_hyperparameter}
        and parameter.method in {None, method}
    )


class LegacyHyperparameters:
    """What a job of the legacy API was created with, or has derived from its data."""

    __slots__ = ()

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    prompt_loss_weight: float | None = None
    compute_classification_metrics: bool | None = None
    classification_n_classes: int | None = None
    classification_positive_class: str | None = None
    classification_betas: list[float] | None = None


LEGACY_HYPERPARAMETERS: tuple[JobParameter, ...] = tuple(
    map(job_parameter, LegacyHyperparameters.__annotations__)
)
"""The settings that a job of the legacy API shows as its `hyperparams`."""


class LegacyOptions(TypedDict, total=False):
    """The settings that a job of the legacy API is created with, as keyword arguments."""

    n_epochs: int | Omit | NotGiven
    batch_size: int | Omit | NotGiven | None
    learning_rate_multiplier: float | Omit | NotGiven | None
    prompt_loss_weight: float | Omit | NotGiven
    compute_classification_metrics: bool | Omit | NotGiven
    classification_n_classes: int | Omit | NotGiven | None
    classification_positive_class: str | Omit | NotGiven | None
    classification_betas: Sequence[float] | Omit | NotGiven | None
    suffix: str | Omit | NotGiven | None
