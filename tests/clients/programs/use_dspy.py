"""dspy against an engine: predictions, adapters, streams, tools, and fine-tuning by its optimizer.

Usage: python use_dspy.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import os
import sys
from typing import Literal

base_url, _, name = sys.argv[1:4]
# dspy's fine-tuning provider makes a client of its own from these.
os.environ |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_BASE": base_url, "OPENAI_API_KEY": "any"}

import dspy  # noqa: E402

to = {"api_base": base_url, "api_key": "any", "cache": False}
lm = dspy.LM(f"openai/{name}", max_tokens=120, **to)
assert isinstance(lm("Hello", max_tokens=4)[0], str)
scored = lm("Hello", max_tokens=3, logprobs=True)
assert scored[0]["logprobs"].content
text = dspy.LM(f"text-completion-openai/{name}", model_type="text", max_tokens=4, **to)
assert isinstance(text("I love it ->")[0], str)


class Mood(dspy.Signature):
    """Tell the mood of a text."""

    text: str = dspy.InputField()
    mood: Literal["positive", "negative"] = dspy.OutputField()


# dspy asks for a JSON schema where litellm's table says that the model follows one. The engine
# answers to the hosted service's names, too.
known = dspy.LM("openai/gpt-4o-mini", max_tokens=120, **to)
with dspy.context(lm=known, adapter=dspy.JSONAdapter()):
    assert dspy.Predict(Mood)(text="I love the sea").mood in {"positive", "negative"}
    assert dspy.ChainOfThought(Mood) is not None
with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
    try:
        dspy.Predict(Mood)(text="I love the sea")
    except dspy.utils.exceptions.AdapterParseError:
        print("a tiny model does not keep to a format that is only described")


async def asynchronous():
    with dspy.context(lm=known, adapter=dspy.JSONAdapter()):
        assert (await dspy.Predict(Mood).acall(text="a")).mood in {"positive", "negative"}
        program = dspy.streamify(dspy.Predict(Mood))
        last = [piece async for piece in program(text="I hate it")][-1]
        assert isinstance(last, dspy.Prediction)


asyncio.run(asynchronous())

from dspy.clients.openai import OpenAIProvider  # noqa: E402

tunable = dspy.LM(f"openai/{name}", provider=OpenAIProvider(), finetuning_model=name, **to)
rows = [
    {
        "messages": [
            {"role": "user", "content": f"I {verb} it"},
            {"role": "assistant", "content": mood},
        ]
    }
    for verb, mood in [("love", "positive"), ("hate", "negative")] * 5
]
job = tunable.finetune(rows, "chat", {"n_epochs": 1})
tuned = job.result()
assert isinstance(tuned, dspy.LM), tuned
assert ":ft-" in tuned.model or "ft:" in tuned.model
# dspy names the tuned model without "openai/", which litellm needs for names it does not know.
tuned = dspy.LM(f"openai/{tuned.model}", **to)
assert isinstance(tuned("Hello", max_tokens=3)[0], str)
print("ok")
