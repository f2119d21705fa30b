"""llama-index against an engine: completions, chat, streams, tools, typed answers.

Usage: python use_llama_index.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import sys
from typing import Literal

import openai
import pydantic
from llama_index.core.llms import ChatMessage
from llama_index.core.program import LLMTextCompletionProgram  # noqa: F401 - it must import
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike

base_url, _, name = sys.argv[1:4]
to = {"model": name, "api_base": base_url, "api_key": "any", "max_tokens": 200}


class City(pydantic.BaseModel):
    """A city."""

    model_config = pydantic.ConfigDict(extra="forbid")
    name: Literal["Paris", "London"]
    large: bool


def weather(city: Literal["Paris", "London"]) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


def use(llm):
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage("Hello")]
    answer = llm.chat(messages, max_tokens=8)
    assert answer.message.role.value == "assistant"
    assert answer.raw.usage.completion_tokens >= 1
    assert [piece.delta for piece in llm.stream_chat(messages, max_tokens=8)]
    tool = FunctionTool.from_defaults(weather)
    called = llm.chat_with_tools([tool], user_msg="Weather in Paris?", tool_required=True)
    [call] = llm.get_tool_calls_from_response(called)
    assert call.tool_kwargs["city"] in {"Paris", "London"}
    history = [ChatMessage("Weather?"), called.message]
    history.append(
        ChatMessage(role="tool", content="rain", additional_kwargs={"tool_call_id": call.tool_id})
    )
    llm.chat(history, max_tokens=4)
    typed = llm.as_structured_llm(City).complete("A city?")
    assert isinstance(typed.raw, City)
    assert isinstance(
        llm.structured_predict(
            City,
            __import__("llama_index.core.prompts", fromlist=["PromptTemplate"]).PromptTemplate(
                "A city of {where}?"
            ),
            where="France",
        ),
        City,
    )


async def use_async(llm):
    assert (await llm.achat([ChatMessage("Hello")], max_tokens=4)).message.role.value == "assistant"
    stream = await llm.astream_chat([ChatMessage("Hello")], max_tokens=4)
    assert [piece async for piece in stream]


like = OpenAILike(**to, is_chat_model=True, is_function_calling_model=True)
use(like)
asyncio.run(use_async(like))
use(
    OpenAILike(
        **to, is_chat_model=True, is_function_calling_model=True, should_use_structured_outputs=True
    )
)
completing = OpenAILike(**to, is_chat_model=False)
assert isinstance(completing.complete("I love it ->", max_tokens=3).text, str)
assert list(completing.stream_complete("I love it ->", max_tokens=3))
# The class for the hosted service looks a model's name up in a table of its own.
hosted = OpenAI(**{**to, "model": "gpt-3.5-turbo"})
assert isinstance(hosted.complete("Hello", max_tokens=3).text, str)
scored = OpenAI(**{**to, "model": "gpt-3.5-turbo"}, logprobs=True, top_logprobs=2)
assert scored.chat([ChatMessage("Hello")], max_tokens=3).logprobs

try:
    OpenAIEmbedding(api_base=base_url, api_key="any", max_retries=0).get_text_embedding("a")
except openai.NotFoundError as error:
    assert "Embeddings are not offered here" in str(error)

try:
    import tunesmith
except ImportError:
    print("tunesmith's client is not installed beside llama-index")
else:
    given = OpenAILike(
        **to,
        is_chat_model=True,
        is_function_calling_model=True,
        openai_client=tunesmith.Client(base_url=base_url, api_key="any"),
        async_openai_client=tunesmith.AsyncClient(base_url=base_url, api_key="any"),
    )
    use(given)
    asyncio.run(use_async(given))
print("ok")
