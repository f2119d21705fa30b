"""inspect-ai against an engine: an evaluation with tools and scorers, log probabilities, schemas.

Usage: python use_inspect_ai.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import json
import os
import sys
import tempfile

os.environ["INSPECT_DISPLAY"] = "none"

from typing import Literal

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import ToolChoice, ToolFunction, tool  # noqa: F401
from inspect_ai.util import json_schema
from pydantic import BaseModel, ConfigDict

base_url, _, name = sys.argv[1:4]
to = {"base_url": base_url, "api_key": "any"}


class City(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["Paris", "London"]
    large: bool


@tool
def add():
    async def execute(x: int, y: int) -> int:
        """Add two numbers.

        Args:
            x: First number.
            y: Second number.
        """
        return x + y

    return execute


@tool
def pick():
    async def execute(city: Literal["Paris", "London"]) -> str:
        """Pick a city.

        Args:
            city: Its name.
        """
        return city

    return execute


samples = [
    Sample(input="What is the capital of France?", target="Paris"),
    Sample(input="What is 2 + 2?", target="4"),
]
models = [
    get_model(f"openai-api/tunesmith/{name}", **to),
    get_model(f"openai/{name}", responses_api=False, **to),
]


async def ask(model):
    config = GenerateConfig(max_tokens=4, logprobs=True, top_logprobs=2, seed=1, temperature=0.5)
    output = await model.generate("Hello", config=config)
    assert len(output.choices[0].logprobs.content) >= 1
    assert output.usage.input_tokens >= 1
    assert (
        await model.generate("Hello", config=GenerateConfig(max_tokens=4, num_choices=2))
    ).choices[1]
    schema = ResponseSchema(name="city", json_schema=json_schema(City), strict=True)
    typed = await model.generate("A city?", config=GenerateConfig(response_schema=schema))
    City.model_validate(json.loads(typed.completion))
    called = await model.generate(
        "Pick a city", tools=[pick()], tool_choice=ToolFunction(name="pick")
    )
    [call] = called.message.tool_calls
    assert call.arguments["city"] in {"Paris", "London"}
    stopped = await model.generate(
        "Hello", config=GenerateConfig(max_tokens=9, stop_seqs=["a", "e"], frequency_penalty=0.5)
    )
    assert stopped.stop_reason in {"stop", "max_tokens"}


for model in models:
    asyncio.run(ask(model))
    with tempfile.TemporaryDirectory() as logs:
        task = Task(
            dataset=samples,
            solver=[system_message("Answer in a word."), use_tools(add()), generate()],
            scorer=[includes(), match()],
            config=GenerateConfig(max_tokens=12, max_connections=4),
        )
        [log] = evaluate(task, model=model, log_dir=logs, log_level="error")
        assert log.status == "success", log.error
        assert len(log.samples) == 2
print("ok")
