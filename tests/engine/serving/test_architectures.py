"""Models of other families than the default base compute what plain transformers computes."""

from __future__ import annotations

import shutil
import weakref

import pytest

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.serving.generation import GenerationRequest
from tunesmith.engine.serving.generation_errors import GenerationError

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
FAMILIES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "eos_token_id": 2},
    "mistral": {**SMALL, "sliding_window": 5},
    "qwen3": {**SMALL, "head_dim": 16},
    "gemma2": {**SMALL, "head_dim": 8, "sliding_window": 5},
    "gemma3_text": {**SMALL, "head_dim": 8, "sliding_window": 5},
    "gpt_neox": {**SMALL, "num_key_value_heads": None},
}
TEXT = "what a great day, I love this phone -> positive"


@pytest.fixture(scope="module")
def write_base(tiny_base_model, tmp_path_factory):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    size = len(AutoTokenizer.from_pretrained(tiny_base_model))

    def write(family, options):
        folder = tmp_path_factory.mktemp("family") / family
        torch.manual_seed(3)
        config = AutoConfig.for_model(family, vocab_size=size, **options)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        for file in tiny_base_model.glob("*token*"):
            shutil.copy(file, folder)
        return ServableModel(family, family, folder)

    return write


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_s_scores(loaded, write_base, family):
    import torch
    from transformers import AutoModelForCausalLM

    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    model = write_base(family, FAMILIES[family])
    base, adapter = loaded.get(model)
    fields = {"max_tokens": 12, "temperature": 0, "logprobs": 0, "echo": True}
    request = GenerationRequest(prompts=[TEXT, TEXT[:9]], **fields)
    # Chunked prefill, two sequences of different lengths.
    scheduler = Scheduler(base, SchedulerLimits(max_prefill_tokens=4))
    group = create_sequence_group(1, request, base, adapter)
    deltas = list(scheduler.add(group))
    while scheduler.busy:
        deltas += [delta for _, delta in scheduler.step()]
    plain = AutoModelForCausalLM.from_pretrained(model.base_path).eval()
    assert len(deltas) == 2
    for delta in deltas:
        sequence = group.sequences[delta.index]
        ids = [*sequence.prompt, *sequence.tokens]
        with torch.inference_mode():
            logits = plain(input_ids=torch.tensor([ids])).logits[0].float()
        expected = torch.log_softmax(logits, -1)
        logprobs = [*sequence.prompt_logprobs, *sequence.logprobs]
        assert [entry.token for entry in logprobs] == ids[1:]
        assert [entry.logprob for entry in logprobs] == pytest.approx(
            [float(expected[place][token]) for place, token in enumerate(ids[1:])], abs=1e-4
        )
        assert sequence.tokens == expected[len(sequence.prompt) - 1 : -1].argmax(-1).tolist()


def test_the_least_recently_used_base_is_evicted(loaded, models, write_base):
    gone = []
    loaded.on_unload = lambda base: gone.append(base.path)
    others = [write_base(family, FAMILIES[family]) for family in ("qwen3", "mistral")]
    first, _ = loaded.get(models["tiny"])
    loaded.budget = first.nbytes + 200_000
    loaded.get(others[0])
    assert len(loaded.bases) in {1, 2}
    loaded.get(others[1])
    assert models["tiny"].base_path in gone
    # A base that is answering stays, whatever the budget.
    loaded.budget = 1
    loaded.is_busy = lambda base: base.path == others[1].base_path
    loaded.get(models["tiny"])
    assert set(loaded.bases) == {others[1].base_path, models["tiny"].base_path}


def test_the_memory_of_a_base_is_given_back_at_once(loaded, models):
    model = models["tiny"]
    weights = weakref.ref(loaded.get(model)[0].model)
    loaded.unload(model.base_path)
    assert weights() is None


def test_a_broken_adapter_names_the_fault(loaded, models, tmp_path, adapters):
    folder = tmp_path / "broken"
    shutil.copytree(adapters["red"], folder)
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    broken = ServableModel("broken", "tiny", models["tiny"].base_path, folder)
    with pytest.raises(GenerationError, match="cannot be read") as caught:
        loaded.get(broken)
    assert caught.value.kind is ErrorKind.INTERNAL
