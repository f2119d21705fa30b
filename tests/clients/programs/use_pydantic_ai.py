"""pydantic-ai against an engine: runs, streams, tools, typed output; openai's client and ours.

Usage: python use_pydantic_ai.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import contextlib
import sys
from typing import Literal

import openai
import pydantic
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

base_url, _, name = sys.argv[1:4]


class City(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: Literal["Paris", "London"]
    large: bool


async def use(provider):
    model = OpenAIChatModel(name, provider=provider)
    short = ModelSettings(max_tokens=12, temperature=0, seed=1)
    agent = Agent(model, instructions="Answer in a word.", model_settings=short)
    result = await agent.run("What is the capital of France?")
    assert isinstance(result.output, str)
    assert result.usage.output_tokens >= 1
    again = await agent.run("And of Spain?", message_history=result.all_messages())
    assert again.usage.input_tokens > result.usage.input_tokens
    async with agent.run_stream("Count to five.") as stream:
        assert "".join([text async for text in stream.stream_text(delta=True)])
    for kind in (City, ToolOutput(City), NativeOutput(City), PromptedOutput(City)):
        typed = Agent(model, output_type=kind, retries=3)
        if isinstance(kind, PromptedOutput):  # nothing but the prompt holds the model to it
            with contextlib.suppress(UnexpectedModelBehavior):
                await typed.run("A city of France?", model_settings=short)
        else:
            assert isinstance((await typed.run("A city of France?")).output, City)
    both = Agent(model, output_type=City, retries=3)
    seen = []

    @both.tool_plain
    def population(city: Literal["Paris", "London"]) -> int:
        """Return how many people live in a city."""
        seen.append(city)
        return 2_000_000

    # One of the two is called at each step, until it is the output: a random model may never.
    with contextlib.suppress(UsageLimitExceeded, UnexpectedModelBehavior):
        limits = UsageLimits(request_limit=8)
        assert isinstance((await both.run("A city?", usage_limits=limits)).output, City)
    async with Agent(model, output_type=City).run_stream("A city?") as stream:
        async for _ in stream.stream_output():
            pass
        assert isinstance(await stream.get_output(), City)


async def main():
    await use(OpenAIProvider(base_url=base_url, api_key="any"))
    client = openai.AsyncOpenAI(base_url=base_url, api_key="any")
    await use(OpenAIProvider(openai_client=client))
    try:
        import tunesmith
    except ImportError:
        print("tunesmith's client is not installed beside pydantic-ai")
        return
    async with tunesmith.AsyncClient(base_url=base_url, api_key="any") as client:
        # pydantic-ai takes only answers that are instances of openai's own class.
        model = OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
        with contextlib.suppress(UnexpectedModelBehavior):
            await Agent(model).run("Hello", model_settings=ModelSettings(max_tokens=4))


asyncio.run(main())
print("ok")
