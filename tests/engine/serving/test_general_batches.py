"""The general path answers requests together where padding was proven to change nothing."""

from __future__ import annotations

import pytest
import torch

from families import write_family
from family_truth import TEXTS, TOLERANCE, plain_model
from tunesmith.engine.serving.generation import GenerationRequest
from tunesmith.engine.serving.lora import LoraAdapter
from tunesmith.engine.serving.model_loader import load_base
from tunesmith.engine.serving.path_proof import _random_adapter
from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

TOGETHER = ["granitemoehybrid", "qwen3_5_text"]
MORE = ["bloom", "falcon_h1", "jamba", "lfm2", "mamba2", "qwen3_5", "qwen3_next"]
ALONE = ["mamba", "rwkv", "gpt_neo"]  # no mask, a state of their own, a window


def _slow(names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def folder(request, tmp_path, tiny_base_model):
    return write_family(request.param, tmp_path / request.param, tiny_base_model)


@pytest.fixture
def base(folder):
    return load_base(folder, folder, torch.device("cpu"), torch.float32)


class Passes:
    """Counts a model's passes, and lets one fail."""

    def __init__(self, base, fails_at=None):
        self.rows, self.fails_at = [], fails_at
        base.model.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, _module, _arguments, keywords):
        self.rows.append(keywords["input_ids"].shape[0])
        if len(self.rows) == self.fails_at:
            raise RuntimeError("out of memory")


def logprobs(group):
    return [entry.logprob for entry in group.sequences[0].logprobs]


def answer(base, adapters: list[LoraAdapter | None], texts=TEXTS, **options):
    """Answer greedily and together, each text with its adapter; return the groups."""
    scheduler = Scheduler(base, SchedulerLimits())
    groups = []
    for number, (text, adapter) in enumerate(zip(texts, adapters, strict=True)):
        request = GenerationRequest(
            prompts=[text], max_tokens=6 + number, temperature=0, logprobs=0, **options
        )
        groups.append(create_sequence_group(number, request, base, adapter))
        list(scheduler.add(groups[-1]))
    while scheduler.busy:
        for _, delta in scheduler.step():
            assert not isinstance(delta, Exception), delta
    return groups


def worst(groups, plain):
    for group in groups:  # only what was generated has log probabilities
        for sequence in group.sequences:
            ids = [*sequence.prompt, *sequence.tokens]
            with torch.no_grad():
                logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
            expected = torch.log_softmax(logits, -1)
            for place, entry in enumerate(sequence.logprobs, len(sequence.prompt) - 1):
                assert entry.token == ids[place + 1]
                yield abs(entry.logprob - float(expected[place, entry.token]))


@pytest.mark.parametrize("folder", [*TOGETHER, *_slow(MORE)], indirect=True)
def test_what_arrives_together_is_answered_together(folder, base):
    assert (base.run_path, base.batches) == ("general", True)
    passes = Passes(base)
    groups = answer(base, [None] * 3, n=2)
    assert max(worst(groups, plain_model(folder))) <= TOLERANCE
    assert passes.rows[0] == 3  # the prompts, and then each of them twice
    assert passes.rows[1] == 6
    assert len(passes.rows) <= 9
    adapter = _random_adapter(base, 5)
    mixed = answer(base, [None, adapter, None])[1]
    alone, plain = (answer(base, [one], TEXTS[1:2])[0] for one in (adapter, None))
    assert mixed.sequences[0].tokens[:6] == alone.sequences[0].tokens
    assert logprobs(mixed)[:6] == pytest.approx(logprobs(alone), abs=TOLERANCE)
    assert logprobs(alone) != pytest.approx(logprobs(plain), abs=10 * TOLERANCE)


@pytest.mark.parametrize("folder", ALONE, indirect=True)
def test_where_it_is_not_proven_each_runs_alone(folder, base):
    assert (base.run_path, base.batches) == ("general", False)
    passes = Passes(base)
    groups = answer(base, [None] * 3, n=2)
    assert max(worst(groups, plain_model(folder))) <= TOLERANCE
    assert set(passes.rows) == {1}


@pytest.mark.parametrize("folder", [TOGETHER[0], ALONE[0]], indirect=True)
@pytest.mark.parametrize("fails_at", [3, 5])
def test_a_pass_that_fails_changes_no_answer(folder, base, fails_at):
    Passes(base, fails_at)
    groups = answer(base, [None] * 3)
    assert max(worst(groups, plain_model(folder))) <= TOLERANCE
