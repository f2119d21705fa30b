"""Words that are counted once: the sum is what the encoder says of the whole text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith.datasets import tokens
from tunesmith.datasets.tokens.word_counts import WordCounts

WORDS = st.sampled_from([" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u0085", "\u2028", "\x1c"]) | (
    st.sampled_from(["a", "It's", "'s", "ABC", "12345", "!", "/", "//\n", "é", "日本", "\u0301"])
    | st.sampled_from(["😀", "\ud83d", "###", ".\n", "word", "naïve"])
)


@pytest.fixture(scope="module", params=tokens.ENCODINGS)
def encoder(request):
    return tokens.encoder(request.param, "python")


def test_words_apart_have_the_tokens_of_the_text(encoder):
    words = WordCounts(lambda text: len(encoder.encode(text)))

    @given(st.lists(st.one_of(WORDS, st.just(" ")), max_size=12).map("".join))
    @example(" a")
    @example("a ")
    @example("a \n\n b")
    @example("end.\n\n###\n\n")
    @example("\n a")
    @example("a\n b")
    def agrees(text):
        for _ in range(2):  # the second time from memory
            assert words.count(text) == len(encoder.encode(text))

    agrees()


def test_words_are_remembered_within_bounds():
    asked = []
    words = WordCounts(lambda text: asked.append(text) or 1)
    for _ in range(3):
        words.count("one two two three\n")
    assert asked == ["one", " two", " three\n"]
    words.count(f"a {'b' * 100} c")
    assert max(map(len, words)) < 100
