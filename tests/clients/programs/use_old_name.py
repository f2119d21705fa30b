"""A program with an old model name, as it was written for the hosted service.

Usage: python use_old_name.py BASE_URL NAME, or AZURE_ENDPOINT NAME azure
"""

import sys

import openai

address, name = sys.argv[1:3]
MESSAGES = [{"role": "user", "content": "I love it"}]


def ask(client: openai.OpenAI) -> None:
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
    print(got.headers["x-tunesmith-side"], answer.model)


if sys.argv[3:] == ["azure"]:
    ask(openai.AzureOpenAI(azure_endpoint=address, api_key="any", api_version="2024-10-21"))
    ask(openai.OpenAI(base_url=f"{address}/openai/v1/", api_key="any"))
else:
    ask(openai.OpenAI(base_url=address, api_key="any"))
