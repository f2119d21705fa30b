"""Every request ends, whatever fails in the scheduler, and a fault ends only what it belongs to."""

from __future__ import annotations

import random

import pytest

PROMPTS = [
    "I love this phone ->",
    "what an awful day",
    "0 1 2 3 4 5 6 7 8 9",
    "the puck went past the goalie on the ice " * 4,
    "a",
]
REQUESTS = [
    {"prompts": [PROMPTS[0]], "max_tokens": 6},
    {"prompts": [PROMPTS[1], PROMPTS[2]], "max_tokens": 9, "n": 2},
    {"prompts": [PROMPTS[3]], "max_tokens": 4, "echo": True, "logprobs": 2},
    {"prompts": [PROMPTS[4]], "max_tokens": 12, "n": 1, "best_of": 3},
    {"prompts": [PROMPTS[2]], "max_tokens": 0, "echo": True, "logprobs": 1},
    {"prompts": [PROMPTS[0]], "max_tokens": 8, "stream": True},
]


class Fault:
    """Replaces a function, and raises at some of its calls."""

    def __init__(self, function, calls, error):
        self.function, self.calls, self.error, self.count = function, calls, error, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return self.function(*args, **kwargs)


@pytest.fixture
def scheduler(loaded, models):
    from tunesmith.engine.serving.generation import GenerationRequest
    from tunesmith.engine.serving.scheduler import (
        Scheduler,
        SchedulerLimits,
        create_sequence_group,
    )

    base, _ = loaded.get(models["tiny"])

    def make(requests, **limits):
        made = Scheduler(base, SchedulerLimits(**limits))
        outputs = []
        for number, fields in enumerate(requests):
            request = GenerationRequest(**{"temperature": 0} | fields)
            outputs += made.add(create_sequence_group(number, request, base, None))
        return made, outputs

    return make


def run(scheduler, outputs=(), steps=2000):
    """Return the texts of each request by choice, or the exception that ended it."""
    outputs = list(outputs)
    for _ in range(steps):
        if not scheduler.busy:
            break
        outputs += scheduler.step()
    assert not scheduler.busy
    assert scheduler.request_ids == set()
    answers = {}
    for number, output in outputs:
        if isinstance(output, Exception):
            answers[number] = output
        else:
            assert not isinstance(answers.get(number), Exception), "answered after its end"
            texts = answers.setdefault(number, {})
            texts[output.index] = texts.get(output.index, "") + output.text
    return answers


@pytest.fixture
def expected(scheduler):
    return run(*scheduler(REQUESTS))


def inject(monkeypatch, place, calls, error):
    from tunesmith.engine.serving import model_runner
    from tunesmith.engine.serving import scheduler as module
    from tunesmith.engine.serving.kv_cache import KVCache
    from tunesmith.engine.serving.sequence import Sequence

    owner, name = {
        "prefill": (model_runner.ModelRunner, "prefill"),
        "decode": (model_runner.ModelRunner, "decode"),
        "reserve": (KVCache, "reserve"),
        "sample": (model_runner, "sample_token"),
        "logprobs": (model_runner, "compute_logprobs"),
        "likeliest": (model_runner, "most_likely"),
        "append": (Sequence, "append_token"),
        "report": (module, "process_output"),
    }[place]
    fault = Fault(getattr(owner, name), calls, error)

    def replacement(*args, **options):  # a function, so that it becomes a method
        return fault(*args, **options)

    monkeypatch.setattr(owner, name, replacement)
    return fault


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("broken")], ids=repr)
@pytest.mark.parametrize(
    "place",
    ["prefill", "decode", "reserve", "likeliest", "sample", "logprobs", "append", "report"],
)
def test_every_request_ends_whatever_fails(monkeypatch, scheduler, expected, place, error):
    generator = random.Random(f"{place} {error!r}")  # noqa: S311 - a reproducible choice
    for case in range(12):
        # One call, several in a row, some at random, or all from one on.
        calls = [
            {case + 1},
            set(range(case + 1, case + 4)),
            set(generator.sample(range(1, 40), 8)),
            set(range(case + 1, 10_000)),
        ][case % 4]
        with monkeypatch.context() as patch:
            made, outputs = scheduler(
                REQUESTS,
                max_sequences=generator.choice([2, 3, 32]),
                max_prefill_tokens=generator.choice([7, 64, 512]),
            )
            inject(patch, place, calls, error)
            answers = run(made, outputs)
        assert answers.keys() == set(range(len(REQUESTS)))
        for number, answer in answers.items():
            if isinstance(answer, Exception):
                assert answer is error
            else:
                assert answer == expected[number]


@pytest.mark.parametrize("place", ["sample", "append", "report"])
def test_a_fault_of_one_sequence_ends_its_request_alone(monkeypatch, scheduler, expected, place):
    made, outputs = scheduler(REQUESTS)
    fault = inject(monkeypatch, place, {9}, ValueError("one"))
    answers = run(made, outputs)
    assert fault.count > 9
    failed = [number for number, answer in answers.items() if isinstance(answer, Exception)]
    assert len(failed) == 1
    assert all(answers[n] == expected[n] for n in expected if n not in failed)


def test_a_pass_that_fails_once_costs_no_answer(monkeypatch, scheduler, expected):
    for place in ("prefill", "decode", "likeliest"):
        with monkeypatch.context() as patch:
            made, outputs = scheduler(REQUESTS[:2] + REQUESTS[3:4] + REQUESTS[5:])
            inject(patch, place, {1}, MemoryError())
            answers = run(made, outputs)
        assert [answers[n] for n in range(4)] == [expected[n] for n in (0, 1, 3, 5)]
        assert made.width == 32


def test_a_prompt_that_is_scored_in_parts_may_be_preempted(scheduler):
    from tunesmith.engine.serving import scheduler as module

    requests = [
        {"prompts": [[5, 6] * 115], "max_tokens": 60, "n": 2, "logit_bias": {0: -100}},
        {"prompts": [[7, 8, 9] * 80], "max_tokens": 3, "echo": True, "logprobs": 1},
    ]
    alone = [run(*scheduler([request]))[0] for request in requests]
    position_bytes = 2 * 2 * 2 * 8 * 4
    made, outputs = scheduler(requests, cache_bytes=768 * position_bytes, max_prefill_tokens=8)
    preempted = []
    original = module.Scheduler._preempt_prefilling

    def note(self):
        preempted.append(len(self.prefilling.prompt_logprobs))
        original(self)

    module.Scheduler._preempt_prefilling = note
    try:
        answers = run(made, outputs)
    finally:
        module.Scheduler._preempt_prefilling = original
    assert [answers[0], answers[1]] == alone
    assert any(preempted)


def owned(organization, key="k", **fields):
    return {"prompts": ["I love the sea"], "organization": organization, "key": key, **fields}


def finishing_order(scheduler, requests, **limits):
    made, outputs = scheduler(requests, **limits)
    order = []
    while made.busy:
        for number, output in [*outputs, *made.step()]:
            assert not isinstance(output, Exception)
            if output.finish_reason and number not in order:
                order.append(number)
        outputs = []
    return order


@pytest.mark.parametrize("other", [("other", "k"), ("flood", "k2")])
def test_a_flood_does_not_delay_others(scheduler, other):
    flood = [owned("flood", max_tokens=200, n=8) for _ in range(16)]
    flood += [owned("flood", max_tokens=9, prompts=["long " * 300]) for _ in range(4)]
    for limits in ({}, {"max_sequences": 4}, {"max_prefill_tokens": 16}):
        requests = [*flood, owned(*other, max_tokens=1)]
        made, outputs = scheduler(requests, **limits)
        steps = 0
        while not any(number == len(flood) for number, _ in outputs):
            outputs += made.step()
            steps += 1
        assert steps <= 4, limits
        for number in range(len(requests)):
            made.abort(number)
        assert not made.busy


def test_turns_go_round_by_organization_then_by_key(scheduler):
    requests = [owned("a", "1", max_tokens=4) for _ in range(6)]
    requests += [owned("a", "2", max_tokens=4) for _ in range(2)]
    requests += [owned("b", max_tokens=4) for _ in range(2)]
    order = finishing_order(scheduler, requests, max_sequences=1)
    owners = [(requests[number]["organization"], requests[number]["key"]) for number in order]
    assert owners[:4] == [("a", "1"), ("b", "k"), ("a", "2"), ("b", "k")]
    assert sorted(order) == list(range(10))


def test_preempted_for_another_the_answer_stays_the_same(scheduler):
    long = {"prompts": ["I love this phone ->"], "max_tokens": 30, "organization": "a"}
    alone = run(*scheduler([long]))[0]
    requests = [long, *(owned("b", max_tokens=3) for _ in range(3)), owned("c", max_tokens=5)]
    assert run(*scheduler([long, long, *requests[1:]], max_sequences=2))[0] == alone
