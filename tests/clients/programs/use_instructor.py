"""instructor against an engine: its modes, retries, partial and iterable answers, sync and async.

instructor patches a client object: openai's, and tunesmith's own where it is installed.
Usage: python use_instructor.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import sys
from typing import Literal

import instructor
import openai
import pydantic

base_url, _, model = sys.argv[1:4]
question = [{"role": "user", "content": "Jason is 25 years old and lives in Paris."}]


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    city: Literal["Paris", "London"]
    adult: bool


def check(client, mode):
    patched = instructor.from_openai(client, mode=mode)
    person = patched.chat.completions.create(
        model=model, messages=question, response_model=Person, max_retries=1
    )
    assert isinstance(person, Person)
    person, raw = patched.chat.completions.create_with_completion(
        model=model, messages=question, response_model=Person, max_retries=1
    )
    assert raw.choices[0].finish_reason in {"stop", "tool_calls"}
    return patched


async def check_async(client, mode):
    patched = instructor.from_openai(client, mode=mode)
    person = await patched.chat.completions.create(
        model=model, messages=question, response_model=Person, max_retries=1
    )
    assert isinstance(person, Person)


modes = [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS_STRICT]
openai_client = openai.OpenAI(base_url=base_url, api_key="any")
for mode in modes:
    check(openai_client, mode)
    asyncio.run(check_async(openai.AsyncOpenAI(base_url=base_url, api_key="any"), mode))
partial = list(
    check(openai_client, instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
        model=model, messages=question, response_model=Person, max_retries=1
    )
)
assert partial[-1].city in {"Paris", "London"}

named = instructor.from_provider(f"openai/{model}", base_url=base_url, api_key="any")
assert isinstance(named.chat.completions.create(messages=question, response_model=Person), Person)

try:
    import tunesmith
except ImportError:
    print("tunesmith's client is not installed beside instructor")
else:
    ours = tunesmith.Client(base_url=base_url, api_key="any")
    for mode in modes:
        patched = instructor.patch(ours, mode=mode)
        person = patched.chat.completions.create(
            model=model, messages=question, response_model=Person, max_retries=1
        )
        assert isinstance(person, Person)
        named = instructor.Instructor(
            client=ours,
            create=instructor.patch(create=ours.chat.completions.create, mode=mode),
            mode=mode,
        )
        assert isinstance(
            named.create(model=model, messages=question, response_model=Person), Person
        )
        person, raw = named.create_with_completion(
            model=model, messages=question, response_model=Person
        )
        assert raw.choices[0].finish_reason in {"stop", "tool_calls"}

    async def asynchronous():
        async with tunesmith.AsyncClient(base_url=base_url, api_key="any") as client:
            for mode in modes:
                create = instructor.patch(create=client.chat.completions.create, mode=mode)
                named = instructor.AsyncInstructor(client=client, create=create, mode=mode)
                person = await named.create(model=model, messages=question, response_model=Person)
                assert isinstance(person, Person)

    asyncio.run(asynchronous())
    partial = list(named.create_partial(model=model, messages=question, response_model=Person))
    assert partial[-1].city in {"Paris", "London"}
print("ok")
