"""Adapters on the experts of a mixture: trained on request, and what PEFT loads from the files."""

from __future__ import annotations

import json
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from families import write_family
from family_truth import TEXTS, TOLERANCE, difference, plain_loss, plain_model, serve, train
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.training import preparation
from tunesmith.engine.training.lora import load_adapter_config
from tunesmith.engine.training.plain_model import has_experts
from tunesmith.engine.training.recipe_rules import trains_experts, why_no_experts

MIXTURES = ["mixtral", "qwen3_moe"]
MORE = ["deepseek_v3", "gpt_oss", "granitemoe", "jamba", "qwen3_next"]
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and PEFT warn of their changes


@pytest.fixture(autouse=True)
def in_32_bits():
    with mock.patch.object(preparation, "best_dtype", return_value=torch.float32):
        yield


@pytest.fixture
def base(request, tiny_base_model, tmp_path):
    return write_family(request.param, tmp_path / request.param, tiny_base_model)


@pytest.mark.parametrize(
    "base",
    [*MIXTURES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)],
    indirect=True,
)
def test_plain_peft_and_the_server_compute_what_was_trained(base, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(base)
    recorder, adapter = train(base, tmp_path / "one", train_experts=True)
    plan = recorder.plans[0]
    assert (plan.path, plan.recipe) == ("general", "lora")
    assert "experts" in plan.path_reason
    saved = json.loads((adapter / "adapter_config.json").read_text())
    places = [name for name, _ in plain_model(base).named_parameters()]
    assert saved["target_parameters"]
    assert set(saved["target_parameters"]) <= set(places)
    assert set(saved["target_modules"]) <= {name.rpartition(".")[0] for name in places}
    of_experts = {
        name: value
        for name, value in load_file(adapter / "adapter_model.safetensors").items()
        if ".experts." in name
    }
    assert len(of_experts) == 2 * len(saved["target_parameters"])
    assert all(float(value.abs().max()) > 0 for value in of_experts.values())
    tuned = plain_model(base, adapter)
    loss = plain_loss(tuned, tokenizer, base)
    assert loss == pytest.approx(recorder.steps[-1].validation.loss, abs=TOLERANCE)
    assert loss < recorder.steps[0].training_loss - 0.05
    models = [ServableModel("a", "tiny", base, adapter), ServableModel("b", "tiny", base)]
    groups = serve([(model, TEXTS) for model in models])
    assert difference(groups[0], tuned) <= TOLERANCE
    assert difference(groups[1], plain_model(base)) <= TOLERANCE


@pytest.mark.parametrize("base", ["qwen3_moe"], indirect=True)
def test_a_continued_training_starts_where_the_first_ended(base, tmp_path):
    first, adapter = train(base, tmp_path / "one", train_experts=True)
    assert trains_experts(wanted=False, parent=adapter)
    config = load_adapter_config(adapter)
    assert len(config.target_parameters) == 6
    assert not any("experts" in name for name in config.target_modules)
    second, continued = train(base, tmp_path / "two", initial_adapter_path=adapter)
    assert second.steps[0].training_loss == pytest.approx(
        first.steps[-1].validation.loss, abs=TOLERANCE
    )
    loss = plain_loss(plain_model(base, continued), AutoTokenizer.from_pretrained(base), base)
    assert loss == pytest.approx(second.steps[-1].validation.loss, abs=TOLERANCE)


@pytest.mark.parametrize("base", ["qwen3_moe"], indirect=True)
def test_what_cannot_be_is_refused_with_the_reason(base, tmp_path, tiny_base_model):
    _, plain = train(base, tmp_path / "plain")
    assert why_no_experts("auto", base, None) is None
    assert why_no_experts("lora", base, None) is None
    assert "no mixture of experts" in (why_no_experts("auto", tiny_base_model, None) or "")
    assert "not by 'full'" in (why_no_experts("full", base, None) or "")
    assert "one process" in (why_no_experts("auto", base, None, processes=2) or "")
    assert "nothing to continue" in (why_no_experts("auto", base, plain) or "")
    assert why_no_experts("full", base, plain, wanted=False) is None
    assert has_experts(base)
    assert not has_experts(tiny_base_model)
    with pytest.raises(TrainingError, match="no mixture of experts"):
        train(tiny_base_model, tmp_path / "refused", train_experts=True)
