"""A program with an old model name, as it was written for the hosted service.

Usage: python use_old_name.py BASE_URL NAME, or AZURE_ENDPOINT NAME azure; with `until-local` it
goes on asking on one client until the new model answers.
"""

import sys

import openai

address, name = sys.argv[1:3]
MESSAGES = [{"role": "user", "content": "I love it"}]


def ask(client: openai.OpenAI) -> str:
    got = client.chat.completions.with_raw_response.create(
        model=name, messages=MESSAGES, temperature=0, seed=1, user="user-1"
    )
    answer = got.parse()
    pieces = []
    with client.chat.completions.create(
        model=name, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert answer.choices[0].message.content, answer
    assert answer.usage is not None
    assert "".join(pieces)
    side = got.headers["x-tunesmith-side"]
    print(side, answer.model, flush=True)
    return side


if sys.argv[3:] == ["azure"]:
    ask(openai.AzureOpenAI(azure_endpoint=address, api_key="any", api_version="2024-10-21"))
    ask(openai.OpenAI(base_url=f"{address}/openai/v1/", api_key="any"))
elif sys.argv[3:] == ["until-local"]:
    one = openai.OpenAI(base_url=address, api_key="any", max_retries=0)
    while ask(one) != "local":
        pass
else:
    ask(openai.OpenAI(base_url=address, api_key="any"))
