"""An answer depends on its own request alone, and ends where the model was taught to end it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tunesmith.engine.serving.generation import GenerationRequest
from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.engine.serving.worker_client import MAX_PENDING, WorkerClient

PROMPTS = ["I love this phone ->", "what an awful day", "0 1 2 3 4", "the puck", "a", "->"]


@pytest.fixture(scope="module")
def rounded_base(tiny_base_model):
    """The tiny model in bfloat16, in which neighbouring logits are often equal."""
    import torch

    from tunesmith.engine.serving.model_loader import load_base

    return load_base(tiny_base_model, tiny_base_model, torch.device("cpu"), torch.bfloat16)


def answers(base, *requests):
    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    scheduler = Scheduler(base, SchedulerLimits())
    outputs = []
    for number, fields in enumerate(requests):
        request = GenerationRequest(**{"temperature": 0, "max_tokens": 16} | fields)
        outputs += scheduler.add(create_sequence_group(number, request, base, None))
    while scheduler.busy:
        outputs += scheduler.step()
    return [
        [delta for number, delta in outputs if number == wanted] for wanted in range(len(requests))
    ]


def test_greedy_text_is_the_same_with_and_without_log_probabilities(rounded_base):
    for prompt in PROMPTS:
        [[plain]] = answers(rounded_base, {"prompts": [prompt]})
        [[scored]] = answers(rounded_base, {"prompts": [prompt], "logprobs": 3})
        assert plain.text == scored.text
        for token in scored.tokens:
            assert token.logprob == token.top[0].logprob  # it is the most likely one


def test_a_neighbour_s_log_probabilities_change_no_text(rounded_base):
    requests = [{"prompts": [prompt]} for prompt in PROMPTS[:3]]
    plain = answers(rounded_base, *requests, *({"prompts": [p]} for p in PROMPTS[3:]))
    scoring = [{"prompts": [prompt], "logprobs": 1} for prompt in PROMPTS[3:]]
    scored = answers(rounded_base, *requests, *scoring)
    assert [one[0].text for one in plain[:3]] == [one[0].text for one in scored[:3]]


def test_special_tokens_can_be_stop_sequences(engine):
    # Token 1 is <|im_start|>, a special token that is no end of the model's own.
    fields = {"model": "ada", "prompt": "a", "max_tokens": 5, "temperature": 0}
    fields["logit_bias"] = {"1": 100}
    on = engine.post("/completions", **fields).json()
    assert on["choices"][0]["finish_reason"] == "length"
    assert on["usage"]["completion_tokens"] == 5
    stopped = engine.post("/completions", stop="<|im_start|>", **fields).json()
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert stopped["usage"]["completion_tokens"] == 0


def test_the_end_of_a_turn_ends_an_answer(tiny_base_model):
    """Also where the model's own end is another token, as in many instruct models."""
    import torch

    from tunesmith.engine.serving.generation import ChatPrompt
    from tunesmith.engine.serving.model_loader import load_base

    base = load_base(tiny_base_model, tiny_base_model, torch.device("cpu"), torch.float32)
    base.eos_token_ids = frozenset({0})
    chat = {"chat": ChatPrompt(messages=[{"role": "user", "content": "a"}])}
    for fields, reason in ((chat, "stop"), ({"prompts": ["a"]}, "length")):
        [[delta]] = answers(base, fields | {"logit_bias": {2: 100}, "max_tokens": 4})
        assert delta.finish_reason == reason


def test_the_token_that_ends_an_answer_is_not_counted(engine):
    fields = {"model": "ada", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    for bias in ({"2": 100}, {"0": 100}, {}):
        body = fields | {"temperature": 0, "logprobs": True, "logit_bias": bias}
        answer = engine.post("/chat/completions", **body).json()
        listed = answer["choices"][0]["logprobs"]["content"]
        assert answer["usage"]["completion_tokens"] == len(listed)


def test_bytes_decide_before_tokens(engine):
    for path, fields in (
        ("/completions", {"prompt": "word " * 1_400_000}),
        ("/chat/completions", {"messages": [{"role": "user", "content": "word " * 1_400_000}]}),
    ):
        answer = engine.post(path, model="ada", max_tokens=1, **fields)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert "bytes" in answer.json()["error"]["message"]


def test_an_answer_of_too_many_log_probabilities_is_refused(engine):
    body = {"model": "ada", "prompt": ["a"] * 128, "max_tokens": 1000, "logprobs": 5}
    answer = engine.post("/completions", **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "answer_too_large"
    assert answer.json()["error"]["param"] == "logprobs"


@pytest.mark.parametrize("pattern", ["^(x{1000}){1000}$", "^((a{1,300}){1,300}){1,300}$"])
def test_a_pattern_that_is_too_large_is_refused(engine, pattern):
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    schema |= {"required": ["a"], "additionalProperties": False}
    answer = engine.post(
        "/chat/completions",
        model="ada",
        messages=[{"role": "user", "content": "a"}],
        max_tokens=3,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    )
    assert answer.status_code in {200, 400}
    if answer.status_code == 400:
        assert answer.json()["error"]["code"] in {"invalid_schema", "grammar_too_large"}


class _Pipes:
    """A process whose worker answers nothing."""

    returncode = None
    stdout = None
    stdin = None


def test_there_is_a_place_for_everyone():
    async def fill():
        client = WorkerClient(_Pipes())
        owners = [("flood", str(key)) for key in range(3)] * MAX_PENDING + [("other", "k")] * 50
        taken, before = dict.fromkeys(owners, 0), dict.fromkeys(owners, 0)
        for owner in owners:
            with contextlib.suppress(GenerationError):
                client._check_places(owner)
                taken[owner] += 1
            if taken[owner] == before[owner]:
                continue
            before[owner] += 1
            number = len(client.pending)
            client.pending[number] = asyncio.Queue()
            client._owners[number] = owner
        client._reader.cancel()
        return taken

    taken = asyncio.run(fill())
    assert sum(taken[owner] for owner in taken if owner[0] == "flood") <= MAX_PENDING // 2 + 1
    assert all(count > 50 for owner, count in taken.items() if owner[0] == "flood")
    assert taken["other", "k"] == 50
