"""What a training needs is computed for every family, or refused with the reason."""

from __future__ import annotations

import warnings

import pytest
from transformers import AutoConfig

from families import FAMILIES
from tunesmith.engine.training.memory_plan import memory_needs

pytestmark = pytest.mark.slow

# Falcon's linear layers are of a class of its own, which bitsandbytes leaves as they are.
REFUSED = {("falcon", "qlora"): "no linear layers that are put into four bits"}
# Each costs a second or more: recurrent layers, experts, and wrappers, once each.
ALL_RECIPES = {"llama", "gpt2", "gemma3", "gpt_oss", "mixtral", "mamba2", "falcon", "qwen3_next"}


def config_of(family):
    """Return the configuration that `write_family` writes, without its weights."""
    size = 520
    ids = {"vocab_size": size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    options = dict(FAMILIES[family])
    if "text_config" in options:
        options["text_config"] = options["text_config"] | ids
        for number, name in enumerate(("image", "video", "audio", "vision_start", "vision_end")):
            options[f"{name}_token_id"] = size - 1 - number
        options["image_token_index"] = size - 1
    else:
        options |= ids
    return AutoConfig.for_model(family, **options)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_memory_of_a_training_is_computed_for_every_family(family):
    config = config_of(family)
    for recipe in ("lora", "qlora", "full") if family in ALL_RECIPES else ("lora",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (family, recipe) in REFUSED:
                with pytest.raises(ValueError, match=REFUSED[family, recipe]):
                    memory_needs(config, recipe)
                continue
            needs = memory_needs(config, recipe)
        assert needs.fixed > needs.weights > 0
        assert needs.kept > 0
        assert needs.widest >= needs.kept
        assert needs.layers >= 2
