from __future__ import annotations

import base64
import hashlib
import random
import subprocess
import sys

import pytest

from tunesmith.datasets import tokens
from tunesmith.datasets.tokens.vocabulary import MAX_TOKEN_BYTES, load_ranks

# The constants that tiktoken pins for the published files.
SHA256 = {
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
ALPHABETS = (
    "abcdefgh ABC 0123456789 '.,!?\n",
    " \t\r\n\x0b\x1c\x85\u00a0\u2028\u3000ab",
    "'sS'tT're'LL\u017f\U0001d4fc",
    "中文字。日本語ひらがなカタカナ한국어 a1",
    "🙂🏽👩‍👩‍👧‍👦é\u0301\u200d\ufe0f½²Ⅷ\u0661๕ªʰǅ",
    '/\\_-=+*#<|>[]{}()"`~ /n',
)
TEXTS = (
    "",
    "Hello world",
    "<|endoftext|> is text",
    "lone \ud83d surrogate",
    "a" * 2_000,
    " " * 300 + "x",
    "/" * 500,
    "Ünïcödé " * 40,
    "x = [i ** 2 for i in range(10)]\n\n\n        return x\r\n",
)


def many_texts(count):
    draw = random.Random(7)  # noqa: S311 - the same texts every time
    made = list(TEXTS)
    for number in range(count):
        if number % 4:
            alphabet = draw.choice(ALPHABETS)
            made.append("".join(draw.choices(alphabet, k=draw.randrange(1, 60))))
        else:
            codes = (draw.randrange(0x110000) for _ in range(draw.randrange(1, 30)))
            made.append("".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF))
    return made


@pytest.mark.parametrize("name", tokens.ENCODINGS)
def test_the_vocabularies_are_the_published_ones_byte_for_byte(name):
    ranks = load_ranks(name)
    published = b"".join(
        base64.b64encode(token) + b" " + str(rank).encode() + b"\n" for token, rank in ranks.items()
    )
    assert hashlib.sha256(published).hexdigest() == SHA256[name]
    assert max(map(len, ranks)) <= MAX_TOKEN_BYTES


@pytest.mark.parametrize("name", tokens.ENCODINGS)
def test_plain_python_gives_the_tokens_of_the_reference(name):
    reference, python = tokens.encoder(name, "tiktoken"), tokens.encoder(name, "python")
    for text in many_texts(400):
        assert python.encode(text) == reference.encode(text), ascii(text)
    assert python.count(TEXTS[4]) == reference.count(TEXTS[4])


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base"])
def test_the_fast_back_end_gives_the_counts_of_the_reference(name):
    pytest.importorskip("toktok")
    reference, fast = tokens.encoder(name, "tiktoken"), tokens.encoder(name, "toktok")
    texts = many_texts(2_000)
    assert fast.count_batch(texts) == reference.count_batch(texts)
    assert fast.count("two words") == 2
    assert fast.encode("two words") == reference.encode("two words")


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("ft:gpt-4.1-mini-2025-04-14:org::abc123", "o200k_base"),
        ("ft:gpt-4.1-nano-2025-04-14:org:name:abc:ckpt-step-80", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-4o-2024-08-06", "o200k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("gpt-5-mini", "o200k_base"),
        ("gpt-5.1", "o200k_base"),
        ("ft:gpt-3.5-turbo-0125:org::abc", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("babbage-002", "cl100k_base"),
        ("ft:davinci-002:org:suffix:id", "cl100k_base"),
        ("text-davinci-003", "p50k_base"),
        ("code-davinci-002", "p50k_base"),
        ("ada", "r50k_base"),
        ("ada:ft-your-org:custom-model-name-2022-02-15-04-21-04", "r50k_base"),
        ("curie:ft-acme-2021-03-03-21-44-20", "r50k_base"),
        ("davinci", "r50k_base"),
        ("text-curie-001", "r50k_base"),
        ("cl100k_base", "cl100k_base"),
    ],
)
def test_every_hosted_model_has_its_encoding(model, encoding):
    assert tokens.encoding_for_model(model) == encoding


def test_an_unknown_model_is_an_error_with_the_way_out():
    with pytest.raises(tokens.UnknownEncodingError, match="huggingface"):
        tokens.count("x", "my-own-model")


def test_counts_by_model_differ():
    text = "    def f(x):\n        return x\n"
    counts = {name: tokens.count(text, name) for name in ("davinci", "text-davinci-003", "gpt-4o")}
    assert counts == {"davinci": 19, "text-davinci-003": 11, "gpt-4o": 9}


def test_the_verdict_is_the_exact_one_on_both_sides_of_the_limit():
    for text in many_texts(80):
        exact = tokens.encoder("r50k_base", "tiktoken").count(text)
        for limit in (exact - 1, exact, exact + 1):
            assert tokens.fits(text, limit) == (exact <= limit)


@pytest.mark.parametrize("name", tokens.ENCODINGS)
def test_a_long_text_is_counted_only_until_the_verdict_is_certain(name):
    words = "some words, don't they\n\nhave 12 marks?  and spaces " * 60
    exact = tokens.encoder(name, "tiktoken").count(words)
    for limit in (exact - 1, exact, exact + 1, exact // 2, exact * 2):
        assert tokens.fits(words, limit, name) == (exact <= limit)


def test_bug_b03_a_limit_is_in_tokens_not_characters():
    chinese = "评论" * 1_100  # 2,200 characters pass the old limit of 10,000, at any length
    assert tokens.count(chinese) > 2_048
    assert not tokens.fits(chinese, 2_048)
    assert tokens.fits("word " * 2_000, 2_048)  # 10,000 characters


class CountingEncoder:
    name = "counting"

    def count(self, text):
        raise AssertionError(f"counted {text!r}")

    count_batch = encode = count


def test_short_and_very_long_texts_are_settled_without_counting(monkeypatch):
    monkeypatch.setattr(tokens, "encoder", lambda _: CountingEncoder())
    assert tokens.fits("x" * 2_048, 2_048, "r50k_base")
    assert tokens.fits("é" * 1_024, 2_048, "r50k_base")
    assert not tokens.fits("x" * (128 * 10 + 1), 10, "r50k_base")
    with pytest.raises(AssertionError, match="counted"):
        tokens.fits("x" * 2_049, 2_048, "r50k_base")


def test_bug_b22_a_lone_surrogate_is_counted_not_dropped():
    for backend in ("python", "tiktoken"):
        encoder = tokens.encoder("r50k_base", backend)
        assert encoder.encode("x\ud83d") == encoder.encode("x\ufffd") != encoder.encode("x")


def test_an_open_model_brings_its_own_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "two": 1, "words": 2}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = tokens.huggingface(tmp_path)
    assert encoder.encode("two words two") == [1, 2, 1]
    assert encoder.count_batch(["two", "two words", ""]) == [1, 2, 0]
    assert tokens.count("two words", encoder) == 2
    assert not tokens.fits("two words", 1, encoder)


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(tokens.TokenizerUnavailableError, match=r"tokenizer\.json"):
        tokens.huggingface(tmp_path)


def test_a_back_end_that_cannot_count_the_encoding_says_so():
    pytest.importorskip("toktok")
    with pytest.raises(tokens.TokenizerUnavailableError, match="r50k_base"):
        tokens.encoder("r50k_base", "toktok")


def test_without_any_extra_and_without_a_network_counts_are_exact():
    program = """
import socket, sys

def refuse(*_, **__):
    raise AssertionError("the network was used")

socket.socket.connect = refuse
sys.modules["tiktoken"] = sys.modules["toktok"] = sys.modules["regex"] = None
import importlib.util

find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("tiktoken", "toktok") else find(name)
from tunesmith.datasets import tokens

print(tokens.count("Hello world, naïve 评论", "davinci"), tokens.count("don't stop", "gpt-4o"))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = (
        tokens.encoder("davinci", "tiktoken").count("Hello world, naïve 评论"),
        tokens.encoder("gpt-4o", "tiktoken").count("don't stop"),
    )
    assert tuple(map(int, result.stdout.split())) == expected
