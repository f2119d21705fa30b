"""Bodies of the two create requests, and the hyperparameters that they request."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tunesmith.types.job_parameters import RecipeChoice

__all__ = ["CreateFineTune", "CreateFineTuningJob", "explicit_values"]

Auto = Literal["auto"]
Epochs = Annotated[int, Field(ge=1, le=50)]
BatchSize = Annotated[int, Field(ge=1, le=256)]
Multiplier = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FileId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class _Body(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", protected_namespaces=())


class Hyperparameters(_Body):
    """Values that are "auto" or absent are chosen by the engine."""

    n_epochs: Epochs | Auto | None = None
    batch_size: BatchSize | Auto | None = None
    learning_rate_multiplier: Multiplier | Auto | None = None
    prompt_loss_weight: Annotated[float, Field(ge=0, le=1)] | Auto | None = None


class PreferenceHyperparameters(Hyperparameters):
    """With the weight of the penalty for leaving the reference model."""

    beta: Annotated[float, Field(gt=0, le=2)] | Auto | None = None


class SupervisedMethod(_Body):
    """Supervised training on the answers of the examples."""

    hyperparameters: Hyperparameters | None = None


class PreferenceMethod(_Body):
    """Direct preference optimisation."""

    hyperparameters: PreferenceHyperparameters | None = None


class Method(_Body):
    """How to train."""

    type: Literal["supervised", "dpo"] = Field(
        description="`reinforcement` is not supported by this engine."
    )
    supervised: SupervisedMethod | None = None
    dpo: PreferenceMethod | None = None

    def chosen(self) -> Hyperparameters | None:
        """Return the hyperparameters of the method that `type` names."""
        config = self.dpo if self.type == "dpo" else self.supervised
        return None if config is None else config.hyperparameters


class CreateFineTuningJob(_Body):
    """Body of `POST /v1/fine_tuning/jobs`. `recipe` is this engine's own."""

    training_file: FileId
    model: ModelName
    validation_file: FileId | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(max_length=64)],
                Annotated[str, StringConstraints(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: Annotated[list[dict[str, Any]], Field(max_length=5)] | None = None
    recipe: RecipeChoice | None = None

    def requested_hyperparameters(self) -> dict[str, Any]:
        """Return the requested hyperparameters; those of `method` override the older field."""
        requested = explicit_values(self.hyperparameters)
        if self.method is not None:
            requested |= explicit_values(self.method.chosen())
        if self.recipe is not None:
            requested["recipe"] = self.recipe
        return requested


class CreateFineTune(_Body):
    """Body of `POST /v1/fine-tunes`. `seed` and `recipe` are this engine's own."""

    training_file: FileId
    validation_file: FileId | None = None
    model: ModelName = "curie"
    n_epochs: Epochs | Auto | None = None
    batch_size: BatchSize | Auto | None = None
    learning_rate_multiplier: Multiplier | Auto | None = None
    prompt_loss_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    compute_classification_metrics: bool | None = None
    classification_n_classes: Annotated[int, Field(ge=2, le=10_000)] | None = None
    classification_positive_class: (
        Annotated[str, StringConstraints(min_length=1, max_length=200)] | None
    ) = None
    classification_betas: (
        Annotated[list[Annotated[float, Field(gt=0, le=100)]], Field(max_length=10)] | None
    ) = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = None
    hyperparameters: Hyperparameters | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    recipe: RecipeChoice | None = None

    def requested_hyperparameters(self) -> dict[str, Any]:
        """Return the requested hyperparameters, with the API's defaults for two of them."""
        top_level = _explicit(self.model_dump(include=_LEGACY_HYPERPARAMETERS))
        return (
            {"prompt_loss_weight": 0.01, "n_epochs": 4}
            | explicit_values(self.hyperparameters)
            | top_level
        )


_LEGACY_HYPERPARAMETERS = {
    "n_epochs",
    "batch_size",
    "learning_rate_multiplier",
    "prompt_loss_weight",
    "compute_classification_metrics",
    "classification_n_classes",
    "classification_positive_class",
    "classification_betas",
    "recipe",
}


def explicit_values(hyperparameters: Hyperparameters | None) -> dict[str, Any]:
    """Return the values that are not left to the engine: neither null nor "auto"."""
    return {} if hyperparameters is None else _explicit(hyperparameters.model_dump())


def _explicit(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != "auto"}
