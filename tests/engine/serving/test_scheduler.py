"""The scheduler computes what the plain model computes, whatever else is in the scheduler."""

from __future__ import annotations

import pytest

from tunesmith.engine.serving.detokenizer import TokenBytes

PROMPTS = [
    "I love this phone ->",
    "what an awful day",
    "0 1 2 3 4 5 6 7 8 9",
    "the puck went past the goalie on the ice",
]


def tokens_of(tokenizer, text):
    return tokenizer.encode(text)


@pytest.fixture(scope="session")
def id_of(tokenizer):
    """Bytes → token id, for a vocabulary in which no two tokens stand for the same bytes."""
    names = TokenBytes(tokenizer)
    table = {names[number]: number for number in range(len(tokenizer))}
    assert len(table) == len(tokenizer)
    return table


@pytest.fixture(scope="session")
def tokenizer(tiny_base_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


def by_index(deltas):
    assert all(delta.finish_reason for delta in deltas)
    return sorted(deltas, key=lambda delta: delta.index)


@pytest.mark.parametrize("name", ["tiny", "red", "blue", "dora"])
def test_scores_of_prompt_and_answer_are_the_plain_model_s(ask, plain, tokenizer, id_of, name):
    prompt = PROMPTS[0]
    [[delta]] = ask(
        (
            name,
            {"prompts": [prompt], "max_tokens": 8, "temperature": 0, "logprobs": 5, "echo": True},
        )
    )
    ids = [id_of[token.data] for token in delta.tokens]
    expected = plain(name, ids)
    assert delta.text.startswith(prompt)
    assert ids[:-8] == tokens_of(tokenizer, prompt)
    assert delta.tokens[0].logprob is None
    for place, token in enumerate(delta.tokens[1:]):
        row = expected[place]
        values, best = row.topk(5)
        assert token.logprob == pytest.approx(float(row[ids[place + 1]]), abs=1e-4)
        assert [top.logprob for top in token.top] == pytest.approx(values.tolist(), abs=1e-4)
        assert [id_of[top.data] for top in token.top] == best.tolist()
        if not token.text.startswith("bytes:"):
            assert delta.text[token.offset :].startswith(token.text)


def greedy(name, prompt, **more):
    return name, dict(prompts=[prompt], max_tokens=12, temperature=0, logprobs=1, **more)


def test_an_answer_does_not_depend_on_its_neighbours(ask):
    requests = [greedy(name, prompt) for prompt in PROMPTS for name in ("tiny", "red", "blue")]
    alone = [ask(request)[0] for request in requests]
    together = ask(*requests)
    for one, other in zip(alone, together, strict=True):
        assert one[0].text == other[0].text
        assert [token.logprob for token in one[0].tokens] == pytest.approx(
            [token.logprob for token in other[0].tokens], abs=1e-4
        )
    texts = {name: alone[place][0].text for place, name in enumerate(("tiny", "red", "blue"))}
    assert len(set(texts.values())) == 3  # the adapters do change the answers


@pytest.mark.parametrize(
    "limits",
    [
        {"max_sequences": 2},
        {"max_prefill_tokens": 3},
        {"max_prefill_tokens": 7, "max_sequences": 3},
        # Memory for hardly more than one sequence: the others are preempted and computed again.
        {"cache_bytes": 300 * 2 * 2 * 2 * 8 * 4},
    ],
    ids=["two sequences", "chunked prefill", "both", "little memory"],
)
def test_limits_change_no_answer(ask, limits):
    from tunesmith.engine.serving.scheduler import SchedulerLimits

    requests = [
        greedy("tiny", prompt * repeat, echo=repeat == 2)
        for prompt in PROMPTS
        for repeat in (1, 2, 5)
    ]
    free, tight = ask(*requests), ask(*requests, limits=SchedulerLimits(**limits))
    for one, other in zip(free, tight, strict=True):
        assert one[0].text == other[0].text
        assert [token.logprob for token in one[0].tokens] == pytest.approx(
            [token.logprob for token in other[0].tokens], abs=1e-4
        )


def test_several_choices_of_several_prompts(ask):
    from tunesmith.engine.serving.scheduler import SchedulerLimits

    request = {"prompts": PROMPTS[:2], "n": 3, "max_tokens": 6, "seed": 5, "temperature": 1.0}
    [first] = ask(("tiny", request))
    [second] = ask(("tiny", request), limits=SchedulerLimits(max_sequences=2))
    assert [delta.index for delta in by_index(first)] == list(range(6))
    assert [d.text for d in by_index(first)] == [d.text for d in by_index(second)]
    assert len({delta.text for delta in first}) > 1
    [usage] = [delta.usage for delta in first if delta.usage is not None]
    assert usage.completion_tokens <= 36
    assert first[-1].usage == usage


def test_best_of_returns_the_most_likely(ask):
    fields = {"prompts": PROMPTS[:1], "max_tokens": 6, "seed": 5, "logprobs": 0}
    [every] = ask(("tiny", dict(fields, n=6, best_of=6)))
    [best] = ask(("tiny", dict(fields, n=2, best_of=6)))

    def mean(delta):
        return sum(token.logprob for token in delta.tokens) / len(delta.tokens)

    ranked = sorted(every, key=mean, reverse=True)
    assert [delta.text for delta in by_index(best)] == [delta.text for delta in ranked[:2]]
    assert best[-1].usage.completion_tokens == 36


def test_prompts_can_be_scored_without_an_answer(ask, plain, tokenizer):
    fields = {"prompts": PROMPTS, "max_tokens": 0, "echo": True, "logprobs": 0}
    [deltas] = ask(("red", fields))
    for prompt, delta in zip(PROMPTS, by_index(deltas), strict=True):
        ids = tokens_of(tokenizer, prompt)
        expected = plain("red", ids)
        assert delta.text == prompt
        assert delta.finish_reason == "length"
        assert [token.logprob for token in delta.tokens[1:]] == pytest.approx(
            [float(expected[place][token]) for place, token in enumerate(ids[1:])], abs=1e-4
        )


def test_a_stream_and_a_whole_answer_agree(ask):
    fields = {
        "prompts": PROMPTS,
        "max_tokens": 9,
        "n": 2,
        "seed": 3,
        "logprobs": 2,
        "echo": True,
        "stop": ["e"],
    }
    [whole] = ask(("tiny", fields))
    [pieces] = ask(("tiny", dict(fields, stream=True)))
    for delta in by_index(whole):
        mine = [piece for piece in pieces if piece.index == delta.index]
        assert "".join(piece.text for piece in mine) == delta.text
        assert [t for piece in mine for t in piece.tokens] == list(delta.tokens)
        assert [piece.finish_reason for piece in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1].finish_reason == delta.finish_reason
    assert len(pieces) > len(whole)


def test_stop_sequences_across_tokens(ask):
    fields = {"prompts": ["I love"], "max_tokens": 24, "seed": 11}
    [[full]] = ask(("tiny", fields))
    stop = full.text[7:10]  # begins and ends where it may, with regard to tokens
    cut = full.text.index(stop)
    [[stopped]] = ask(
        ("tiny", {"prompts": ["I love"], "max_tokens": 24, "seed": 11, "stop": ["€", stop]})
    )
    assert stopped.text == full.text[:cut]
    assert stopped.finish_reason == "stop"
    assert stopped.usage.completion_tokens < full.usage.completion_tokens


def test_bias_forces_and_forbids(ask, id_of):
    fields = {"prompts": ["x ->"], "temperature": 0, "logprobs": 0}
    positive = id_of[b" positive"]
    [[forced]] = ask(("tiny", dict(fields, max_tokens=3, logit_bias={positive: 100})))
    assert forced.text == " positive" * 3
    [[free]] = ask(("tiny", dict(fields, max_tokens=1)))
    most_likely = id_of[free.tokens[0].data]
    [[other]] = ask(("tiny", dict(fields, max_tokens=1, logit_bias={most_likely: -100})))
    assert id_of[other.tokens[0].data] != most_likely


def test_penalties_avoid_repetition(ask, id_of):
    words = [b" positive", b" negative", b" day"]
    bias = {id_of[word]: 100 - 10 * place for place, word in enumerate(words)}
    fields = {"prompts": ["x"], "max_tokens": 20, "temperature": 0, "logit_bias": bias}
    [[free]] = ask(("tiny", fields))
    assert free.text == " positive" * 20
    [[varied]] = ask(("tiny", dict(fields, frequency_penalty=2.0, presence_penalty=2.0)))
    assert set(varied.text.split()) == {"positive", "negative", "day"}
    [[less]] = ask(("tiny", dict(fields, frequency_penalty=0.1, presence_penalty=2.0)))
    assert less.text == " positive" * 20


def test_the_same_seed_gives_the_same_answer(ask):
    fields = {"prompts": ["I"], "max_tokens": 12, "top_p": 0.9, "temperature": 1.2}
    one, two, other, free = (
        ask(("tiny", dict(fields, seed=seed)))[0][0].text for seed in (1, 1, 2, None)
    )
    assert one == two
    assert one != other
    assert free not in {one, other}


def test_aborted_sequences_do_not_disturb_the_others(loaded, models):
    from tunesmith.engine.serving.generation import GenerationRequest
    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    base, _ = loaded.get(models["tiny"])

    def group(number):
        request = GenerationRequest(
            prompts=PROMPTS[number : number + 1], max_tokens=10, temperature=0
        )
        return create_sequence_group(number, request, base, None)

    def finish(scheduler):
        deltas = {}
        while scheduler.busy:
            deltas.update(scheduler.step())
        return {number: delta.text for number, delta in deltas.items()}

    scheduler = Scheduler(base, SchedulerLimits())
    for number in range(4):
        list(scheduler.add(group(number)))
    undisturbed = finish(scheduler)
    for number in range(4):
        list(scheduler.add(group(number)))
    for _ in range(3):
        list(scheduler.step())
    scheduler.abort(0)
    scheduler.abort(2)
    assert finish(scheduler) == {1: undisturbed[1], 3: undisturbed[3]}
