"""Tokens of a text over HTTP, as programs that score text ask for them."""

from __future__ import annotations

import json

import httpx
import pytest

from tunesmith.engine import Engine

TEXT = "I love this phone -> positive"


@pytest.fixture
def root(engine: Engine) -> str:
    return engine.base_url.removesuffix("/v1")


def test_tokens_are_those_that_a_completion_reads(root: str, http: httpx.Client):
    answer = httpx.post(f"{root}/tokenize", json={"prompt": TEXT, "return_token_strs": True}).json()
    fields = {"model": "ada", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    by_text = http.post("completions", json={"prompt": TEXT, **fields}).json()
    by_tokens = http.post("completions", json={"prompt": answer["tokens"], **fields}).json()

    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["count"] == by_text["usage"]["prompt_tokens"]
    assert answer["max_model_len"] == 2048
    assert by_text["choices"] == by_tokens["choices"]
    text = httpx.post(f"{root}/detokenize", json={"tokens": answer["tokens"]}).json()
    assert text == {"prompt": TEXT}


def test_the_tokenizer_is_described(root: str):
    info = httpx.get(f"{root}/tokenizer_info", params={"model": "ada"}).json()

    assert info["eos_token"] == "<|im_end|>"
    assert info["bos_token"] == "<|im_start|>"
    assert "message" in info["chat_template"]
    named = {"prompt": info["eos_token"], "add_special_tokens": False, "model": "ada"}
    assert httpx.post(f"{root}/tokenize", json=named).json()["count"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "\ud800"}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "model": "none"}, 404, "model"),
        ("/detokenize", {"tokens": [10**6]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": [1 << 40]}, 400, "tokens"),
    ],
)
def test_what_is_wrong_is_named(root: str, path: str, body: dict, status: int, param: str):
    response = httpx.post(
        root + path, content=json.dumps(body), headers={"content-type": "application/json"}
    )

    assert response.status_code == status, response.text
    assert response.json()["error"]["param"] == param
