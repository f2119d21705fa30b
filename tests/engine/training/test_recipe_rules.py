"""Every recipe, method and model to start from: refused before the queue, or trained."""

from __future__ import annotations

import itertools
import json

import pytest

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.training import train
from tunesmith.engine.training.recipe_rules import recipe_of, why_impossible, why_no_four_bits
from tunesmith.testing import write_tiny_model

RECIPES = ("fast", "lora", "qlora", "full")
PREFERENCES = [
    {
        "input": {"messages": [{"role": "user", "content": f"What of {n}?"}]},
        "preferred_output": [{"role": "assistant", "content": "Good."}],
        "non_preferred_output": [{"role": "assistant", "content": "Bad."}],
    }
    for n in range(4)
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A model of two layers, one of a single layer, and one whose layers are of two kinds."""
    folder = tmp_path_factory.mktemp("bases")
    mixed = write_tiny_model(folder / "mixed")
    config = json.loads((mixed / "config.json").read_text())
    config["layer_types"] = ["full_attention", "sliding_attention"]
    (mixed / "config.json").write_text(json.dumps(config))
    return {
        "two": write_tiny_model(folder / "two"),
        "one": write_tiny_model(folder / "one", layers=1),
        "mixed": mixed,
    }


@pytest.mark.parametrize("base", ["two", "one", "mixed"])
def test_each_combination_is_refused_before_the_queue_or_trains(  # noqa: PLR0917
    make_spec, recorder, rows, make_file, bases, base
):
    files = {
        "supervised": make_file("rows.jsonl", rows(4)),
        "dpo": make_file("pairs.jsonl", PREFERENCES),
    }
    parents = {"base": None}
    refused = []
    for parent, method, recipe in itertools.chain(
        # The first round trains the models that the second one continues.
        itertools.product(["base"], files, ("auto", *RECIPES)),
        itertools.product(
            ["fast", "lora", "full", "checkpoint of fast", "checkpoint of lora"],
            files,
            ("auto", *RECIPES),
        ),
    ):
        if recipe == "qlora" and parent == "base" and method == "dpo":
            continue  # nothing that "supervised" does not show, and loading takes long
        if parent not in parents:
            continue  # no model was trained so from this base
        name = f"{parent}-{method}-{recipe}".replace(" ", "-")
        spec = make_spec(
            name,
            base_path=bases[base],
            initial_adapter_path=parents[parent],
            training_path=files[method],
            method=method,
            recipe=recipe,
            n_epochs=1,
        )
        if why_impossible(recipe, bases[base], parents[parent]) is not None:
            refused.append((parent, recipe))
            with pytest.raises(TrainingError):
                train(spec, recorder())
            continue
        observer = recorder()
        outcome = train(spec, observer)
        assert outcome.stopped is None
        assert outcome.output_path is not None
        if parent == "base" and method == "supervised" and recipe in {"fast", "lora", "full"}:
            parents[recipe] = outcome.output_path
            parents[f"checkpoint of {recipe}"] = observer.checkpoints[-1].path
    expected = {("lora", "fast"), ("lora", "full"), ("full", "fast"), ("full", "lora")}
    expected |= {("checkpoint of lora", "fast"), ("checkpoint of lora", "full")}
    if base == "two":
        expected |= {("fast", "lora"), ("fast", "full")}
        expected |= {("checkpoint of fast", "lora"), ("checkpoint of fast", "full")}
    else:
        expected.add(("base", "fast"))
    trained = set(parents) - {"checkpoint of full"}
    if why_no_four_bits() is not None:
        expected |= {(parent, "qlora") for parent in trained}
    else:
        expected |= {(parent, "qlora") for parent in trained if "fast" in parent}
        expected.add(("full", "qlora"))
    assert set(refused) == expected


def test_an_adapter_from_elsewhere_is_not_refused_without_knowing(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"layers_to_transform": [1]}')
    assert recipe_of(tmp_path) is None
    (tmp_path / "adapter_config.json").write_text("[")
    assert recipe_of(tmp_path) is None
    (tmp_path / "adapter_config.json").write_text("{}")
    assert recipe_of(tmp_path) == "lora"
