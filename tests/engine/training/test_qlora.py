"""The recipe `qlora`: adapters on a base in four bits, with bitsandbytes on the processor."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from tunesmith._install import install_extra
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.training import recipe_rules, train
from tunesmith.engine.training.lora import AdapterConfig
from tunesmith.engine.training.memory_plan import memory_needs, usable
from tunesmith.engine.training.plain_model import add_peft_adapter, load_training_model
from tunesmith.engine.training.recipe_rules import why_impossible
from tunesmith.engine.training.split_model import SplitModel

pytestmark = pytest.mark.slow
needs_bitsandbytes = pytest.mark.skipif(
    recipe_rules.why_no_four_bits() is not None, reason="bitsandbytes is not installed"
)


@pytest.fixture
def tokenizer(tiny_base_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


@needs_bitsandbytes
def test_an_adapter_learns_on_a_base_in_four_bits_and_loads_in_plain_peft(
    make_spec, recorder, tiny_base_model
):
    from peft import PeftModel

    observer = recorder()
    outcome = train(make_spec(recipe="qlora", n_epochs=4), observer)
    plan = observer.plans[0]
    assert (plan.recipe, plan.path) == ("qlora", "general")
    assert "four bits" in plan.path_reason
    losses = [step.training_loss for step in observer.steps]
    assert losses[-1] < losses[0] / 2
    plain = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    tokens = torch.arange(8)[None]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses transformers' old names
        before = plain(tokens).logits
        after = PeftModel.from_pretrained(plain, outcome.output_path)(tokens).logits
    assert (after - before).abs().max() > 0.1
    assert json.loads((outcome.output_path / "training.json").read_text())["recipe"] == "qlora"


@needs_bitsandbytes
@pytest.mark.parametrize(
    "family", ["llama", "qwen3", "phi3", "gemma2", "gpt2", "mixtral", "gpt_neox", "lfm2"]
)
def test_losses_and_gradients_are_those_of_the_dequantised_weights(
    family, tmp_path, tiny_base_model, tokenizer
):
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    from families import write_family

    folder = write_family(family, tmp_path / family, tiny_base_model)
    cpu = torch.device("cpu")
    quantized = load_training_model(folder, torch.float32, cpu, tokenizer=tokenizer, four_bits=True)
    plain = SplitModel(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    count = 0
    for name, module in quantized.whole.named_modules():
        if isinstance(module, Linear4bit):
            weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
            target = plain.whole.get_submodule(name).weight
            transposed = type(plain.whole.get_submodule(name)).__name__ == "Conv1D"
            target.data.copy_(weight.T if transposed else weight)
            count += 1
    assert count > 0
    found = _loss_and_gradients(quantized)
    expected = _loss_and_gradients(plain)
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    assert functional.cosine_similarity(found[1], expected[1], dim=0) > 1 - 1e-5


def _loss_and_gradients(model):
    config = AdapterConfig(4, 8.0, model.linear_names())
    adapter = add_peft_adapter(model, config, seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, b in adapter.matrices.values():
        b.data.copy_(torch.randn(b.shape, generator=generator) * 0.02)
    tokens = torch.arange(3, 27)[None]
    # The pass without gradients first: it must leave the weights as they are.
    with torch.no_grad():
        model.whole(input_ids=tokens, use_cache=False)
    logits = model.whole(input_ids=tokens, use_cache=False).logits[0].float()
    loss = functional.cross_entropy(logits[:-1], tokens[0, 1:])
    loss.backward()
    gradients = [p.grad.flatten() for pair in adapter.matrices.values() for p in pair]
    return float(loss.detach()), torch.cat(gradients)


@needs_bitsandbytes
def test_a_resumed_training_ends_as_one_that_was_not_stopped(make_spec, recorder):
    whole = recorder()
    train(make_spec("whole", recipe="qlora"), whole)
    train(make_spec("stopped", recipe="qlora"), recorder(stop_after=7))
    resumed = recorder()
    train(make_spec("stopped", recipe="auto"), resumed)  # the recipe is kept with the checkpoint
    assert resumed.plans[0].recipe == "qlora"
    assert [s.training_loss for s in resumed.steps] == [s.training_loss for s in whole.steps[7:]]


@needs_bitsandbytes
def test_lora_and_qlora_continue_each_other_and_auto_continues_as_before(make_spec, recorder):
    four = train(make_spec("four", recipe="qlora", n_epochs=1), recorder()).output_path
    sixteen = train(make_spec("sixteen", recipe="lora", n_epochs=1), recorder()).output_path
    for number, (parent, asked, expected) in enumerate(
        [(four, "auto", "qlora"), (four, "lora", "lora"), (sixteen, "qlora", "qlora")]
    ):
        assert why_impossible(asked, make_spec().base_path, parent) is None
        observer = recorder()
        spec = make_spec(f"next-{number}", recipe=asked, initial_adapter_path=parent, n_epochs=1)
        train(spec, observer)
        assert observer.plans[0].recipe == expected


def between(base, first, second):
    """Return a budget into which one recipe fits, and the other does not."""
    config = AutoConfig.from_pretrained(base)
    least = []
    for recipe in (first, second):
        needs = memory_needs(config, recipe)
        least.append((needs.fixed + 20 * needs.per_token(needs.layers)) / usable(1.0))
    assert least[0] < least[1]
    return int(sum(least) / 2)


@needs_bitsandbytes
def test_auto_takes_four_bits_where_sixteen_do_not_fit(
    make_spec, recorder, tmp_path, tiny_base_model
):
    from families import write_family

    changes = {"hidden_size": 256, "intermediate_size": 512}
    base = write_family("llama", tmp_path / "wide", tiny_base_model, **changes)
    budget = between(base, "qlora", "lora")
    observer = recorder()
    train(make_spec(base_path=base, recipe="auto", n_epochs=1, memory_bytes=budget), observer)
    assert observer.plans[0].recipe == "qlora"
    assert "`lora` would need" in observer.plans[0].reason
    assert any("tokens at a time" in message for _, message in observer.notes)
    with pytest.raises(TrainingError, match="Use the recipe `qlora`, which fits") as caught:
        train(make_spec("16", base_path=base, recipe="lora", memory_bytes=budget), recorder())
    assert caught.value.code == "out_of_memory"


def test_without_bitsandbytes_the_recipe_is_refused_before_the_queue(
    make_spec, recorder, monkeypatch, tiny_base_model
):
    monkeypatch.setattr(recipe_rules, "find_spec", lambda _name: None)
    message = why_impossible("qlora", tiny_base_model, None)
    assert message is not None
    assert install_extra("quantized") in message
    with pytest.raises(TrainingError, match="quantized"):
        train(make_spec(recipe="qlora"), recorder())


def test_weights_that_are_quantised_already_are_refused_before_the_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_rules, "find_spec", lambda _name: object())
    config = {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = why_impossible("qlora", tmp_path, None)
    assert message is not None
    assert "fp8" in message
