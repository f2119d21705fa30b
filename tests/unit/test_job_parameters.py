"""The settings of jobs stand in one table; what type checkers need beside it agrees with it."""

import inspect

from tunesmith import Client
from tunesmith.types import FineTuneHyperparams
from tunesmith.types.job_parameters import (
    LEGACY_HYPERPARAMETERS,
    LegacyHyperparameters,
    LegacyOptions,
    job_parameter,
    parameters_of,
)


def names(parameters):
    return [parameter.name for parameter in parameters]


def test_the_fields_and_options_of_the_legacy_api_are_those_of_the_table():
    assert list(LegacyOptions.__annotations__) == names(parameters_of("legacy"))
    assert list(LegacyHyperparameters.__annotations__) == names(
        parameter for parameter in parameters_of("legacy") if parameter.name != "suffix"
    )
    assert list(FineTuneHyperparams.model_fields) == names(LEGACY_HYPERPARAMETERS)


def test_create_has_every_setting_with_its_text():
    create = Client("key", base_url="http://127.0.0.1:1/v1").fine_tunes.create
    parameters = inspect.signature(create).parameters
    for name in names(parameters_of("legacy")):
        assert name in parameters
        assert f"    {name}: " in create.__doc__


def test_bounds():
    epochs, rate = job_parameter("n_epochs"), job_parameter("learning_rate_multiplier")
    assert [epochs.is_within_bounds(value) for value in (0, 1, 50, 51)] == [
        False,
        True,
        True,
        False,
    ]
    assert [rate.is_within_bounds(value) for value in (0.0, 0.001)] == [False, True]
