"""Bodies of the two create requests, and the hyperparameters that they request.

Their settings are those of `tunesmith.types.job_parameters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from tunesmith.datasets.training_defaults import LEGACY_EPOCHS
from tunesmith.types.job_parameters import (
    LEGACY_HYPERPARAMETERS,
    OWN_PARAMETERS,
    JobAPI,
    JobParameter,
    RecipeChoice,
    job_parameter,
    parameters_of,
)

__all__ = ["CreateFineTune", "CreateFineTuningJob", "explicit_values"]

Auto = Literal["auto"]
_OWN_NAMES = {"recipe", *(parameter.name for parameter in OWN_PARAMETERS)}
FileId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class _Body(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", protected_namespaces=())


def _value_type(parameter: JobParameter, api: JobAPI) -> Any:
    """Return the type of a setting's value, with its bounds, "auto" and null."""
    number = Field(
        ge=parameter.minimum, gt=parameter.above, le=parameter.maximum, allow_inf_nan=False
    )
    max_length = parameter.max_length.get(api)
    kinds: dict[str, Any] = {
        "bool": bool,
        "int": Annotated[int, Field(ge=parameter.minimum, le=parameter.maximum)],
        "float": Annotated[float, number],
        "floats": Annotated[list[Annotated[float, number]], Field(max_length=max_length)],
        "str": Annotated[str, StringConstraints(min_length=1, max_length=max_length)],
    }
    kind = kinds[parameter.type]
    return Optional[Union[kind, Auto] if api in parameter.auto_in else kind]  # noqa: UP007, UP045 - types made at run time


def _body_of(name: str, api: JobAPI, parameters: tuple[JobParameter, ...]) -> Any:
    fields: dict[str, Any] = {
        parameter.name: (
            _value_type(parameter, api),
            Field(default=None, description=parameter.help),
        )
        for parameter in parameters
    }
    return create_model(name, __base__=_Body, **fields)


if TYPE_CHECKING:

    class _JobSettings(_Body):
        suffix: str | None
        seed: int | None
        early_stopping: int | None
        keep_best: bool | None
        train_experts: bool | None

    class _LegacySettings(_JobSettings): ...

    class Hyperparameters(_Body): ...

    class PreferenceHyperparameters(Hyperparameters): ...

else:
    _LegacySettings = _body_of(
        "LegacySettings",
        "legacy",
        (*parameters_of("legacy"), job_parameter("seed"), *OWN_PARAMETERS),
    )
    _JobSettings = _body_of("JobSettings", "jobs", parameters_of("jobs", hyperparameters=False))
    Hyperparameters = _body_of(
        "Hyperparameters", "jobs", parameters_of("jobs", hyperparameters=True)
    )
    PreferenceHyperparameters = _body_of(
        "PreferenceHyperparameters",
        "jobs",
        parameters_of("jobs", hyperparameters=True, method="dpo"),
    )


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

    def unused(self) -> str | None:
        """Return the name of the other method, if it has hyperparameters all the same."""
        config = self.supervised if self.type == "dpo" else self.dpo
        values = None if config is None else explicit_values(config.hyperparameters)
        return ("supervised" if self.type == "dpo" else "dpo") if values else None


class CreateFineTuningJob(_JobSettings):
    """Body of `POST /v1/fine_tuning/jobs`.

    `recipe`, `early_stopping`, `keep_best` and `train_experts` are this engine's own.
    """

    training_file: FileId
    model: ModelName
    validation_file: FileId | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
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
        return requested | _explicit(self.model_dump(include=_OWN_NAMES))


class CreateFineTune(_LegacySettings):
    """Body of `POST /v1/fine-tunes`.

    `seed`, `recipe`, `early_stopping`, `keep_best` and `train_experts` are this engine's own.
    """

    training_file: FileId
    validation_file: FileId | None = None
    model: ModelName = "curie"
    hyperparameters: Hyperparameters | None = None
    recipe: RecipeChoice | None = None

    def requested_hyperparameters(self) -> dict[str, Any]:
        """Return the requested hyperparameters, with the API's defaults for two of them."""
        names = {parameter.name for parameter in LEGACY_HYPERPARAMETERS}
        top_level = _explicit(self.model_dump(include=names | _OWN_NAMES))
        return (
            {"prompt_loss_weight": 0.01, "n_epochs": LEGACY_EPOCHS}
            | explicit_values(self.hyperparameters)
            | top_level
        )


def explicit_values(hyperparameters: Hyperparameters | None) -> dict[str, Any]:
    """Return the values that are not left to the engine: neither null nor "auto"."""
    return {} if hyperparameters is None else _explicit(hyperparameters.model_dump())


def _explicit(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != "auto"}
