"""The real thing, once: the base model from its wheel, real tweets, a classifier that works."""

from __future__ import annotations

import json
import random

import pytest

from tunesmith.engine.home import Home
from tunesmith.engine.models.model_errors import PullError
from tunesmith.engine.models.pull import pull
from tunesmith.engine.training import train
from tunesmith.engine.training.spec import TrainingSpec
from tunesmith.quickstart.tweets import fetch_text


def tweets(folder) -> list[dict]:
    """Return balanced rows of tweets that people found clearly positive or negative."""
    classes: dict[str, list[dict]] = {" positive": [], " negative": []}
    for line in fetch_text(folder).splitlines():
        _, score, tweet = line.split("\t")
        if abs(float(score)) >= 1:
            label = " positive" if float(score) > 0 else " negative"
            classes[label].append({"prompt": f"{tweet.strip()} ->", "completion": label})
    shuffler = random.Random(0)  # noqa: S311 - the same split every time
    for rows in classes.values():
        shuffler.shuffle(rows)
    count = min(map(len, classes.values()))
    balanced = [row for rows in classes.values() for row in rows[:count]]
    shuffler.shuffle(balanced)
    return balanced


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_tweets_are_told_apart_after_seventy_steps(
    tmp_path, recorder, make_file, index_is_out_of_reach
):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home = Home(tmp_path / "home")
    try:
        base = pull("smollm2-135m-instruct", home)
    except PullError as error:
        index_is_out_of_reach(str(error))
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.bfloat16)

    text = "I paid 12345 for it!\n\n###\n\n Grüße 日本 🎉"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer(" positive").input_ids) == len(tokenizer(" negative").input_ids) == 1
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**asked, max_new_tokens=12, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[asked["input_ids"].shape[1] :])

    rows = tweets(home.downloads)
    spec = TrainingSpec(
        job_id="tweets",
        base_model=base.id,
        base_path=base.path,
        training_path=make_file("train.jsonl", rows[200:1320]),
        work_path=tmp_path / "work",
        output_path=tmp_path / "model",
        n_epochs=1,
        batch_size=16,
        threads=1,
        recipe="fast",
    )
    outcome = train(spec, recorder())
    assert outcome.steps == 70

    tuned = PeftModel.from_pretrained(model, outcome.output_path).eval()
    right = 0
    for row in rows[:200]:
        with torch.no_grad():
            logits = tuned(**tokenizer(row["prompt"], return_tensors="pt")).logits[0, -1]
        right += tokenizer.decode(logits.argmax()) == row["completion"]
    assert right / 200 >= 0.85
    assert json.loads((outcome.output_path / "training.json").read_text())["steps"] == 70
