"""langchain-openai against an engine: chat, streams, tools, typed answers, completions.

Usage: python use_langchain.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import sys
from typing import Literal

import openai
import pydantic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

base_url, _, name = sys.argv[1:4]
to = {"base_url": base_url, "api_key": "any", "model": name}


class City(pydantic.BaseModel):
    """A city."""

    model_config = pydantic.ConfigDict(extra="forbid")
    name: Literal["Paris", "London"]
    large: bool


@tool
def weather(city: Literal["Paris", "London"]) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


def use(chat):
    answer = chat.invoke([SystemMessage("Be brief."), HumanMessage("Hello")], max_tokens=8)
    assert isinstance(answer.content, str)
    assert answer.usage_metadata["output_tokens"] >= 1
    assert answer.response_metadata["finish_reason"] in {"stop", "length"}
    chunks = list(chat.stream("Hello", max_tokens=8))
    assert chunks[-1].usage_metadata or any(chunk.usage_metadata for chunk in chunks)
    assert len(chat.batch(["Hello", "Bye"], max_tokens=4)) == 2
    scored = chat.bind(logprobs=True, top_logprobs=2, max_tokens=3).invoke("Hello")
    assert len(scored.response_metadata["logprobs"]["content"]) >= 1
    calling = chat.bind_tools([weather], tool_choice="weather").invoke("Weather in Paris?")
    [call] = calling.tool_calls
    assert call["args"]["city"] in {"Paris", "London"}
    history = [HumanMessage("Weather?"), calling, ToolMessage("rain", tool_call_id=call["id"])]
    chat.bind_tools([weather]).invoke(history, max_tokens=8)
    strict = chat.bind_tools([weather], strict=True, tool_choice="any", parallel_tool_calls=False)
    merged = None
    for chunk in strict.stream("Weather in Paris?"):
        merged = chunk if merged is None else merged + chunk
    assert merged.tool_calls[0]["name"] == "weather"
    for method in ("json_schema", "function_calling"):
        typed = chat.with_structured_output(City, method=method)
        assert isinstance(typed.invoke("A city?"), City), method
    typed = chat.with_structured_output(City, method="json_schema", include_raw=True)
    assert typed.invoke("A city?")["parsing_error"] is None


async def use_async(chat):
    assert isinstance((await chat.ainvoke("Hello", max_tokens=4)).content, str)
    assert [chunk async for chunk in chat.astream("Hello", max_tokens=4)]
    assert isinstance(await chat.with_structured_output(City).ainvoke("A city?"), City)


chat = ChatOpenAI(**to, stream_usage=True, timeout=60, max_retries=1)
use(chat)
asyncio.run(use_async(ChatOpenAI(**to)))

complete = OpenAI(**to, max_tokens=4, temperature=0)
assert isinstance(complete.invoke("I love it ->"), str)
assert list(complete.stream("I love it ->"))
assert len(OpenAI(**to, max_tokens=2, n=2, best_of=3).generate(["a", "b"]).generations) == 2

embeddings = OpenAIEmbeddings(
    base_url=base_url, api_key="any", model=name, check_embedding_ctx_length=False
)
try:
    embeddings.embed_query("a")
except openai.NotFoundError as error:
    assert "Embeddings are not offered here" in str(error)

try:
    import tunesmith
except ImportError:
    print("tunesmith's client is not installed beside langchain-openai")
else:
    ours = tunesmith.Client(base_url=base_url, api_key="any")
    own = OpenAI(**to, max_tokens=4, client=ours.completions)
    assert isinstance(own.invoke("I love it ->"), str)
    assert list(own.stream("I love it ->"))
    # ChatOpenAI takes only answers that are instances of openai's own class.
    chat = ChatOpenAI(**to, root_client=ours, client=ours.chat.completions)
    try:
        chat.invoke("Hello", max_tokens=3)
    except ValueError as error:
        assert "openai.BaseModel" in str(error)
print("ok")
